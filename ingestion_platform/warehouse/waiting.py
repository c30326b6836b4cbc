"""Who holds a file that we wait for, in words for the person who waits."""

import os
from pathlib import Path


def holder_of(path: Path) -> str:
    """
    Name the processes that hold a lock on *path* (or on SQLite's `-shm` file beside it).

    Returns:
        As in `process 4711 (sqlite3 ledger.sqlite)`; `another process` where the system doesn't tell.

    Source:
        proc_locks(5): the sixth field is device and inode.
    """
    inodes: set[str] = set()
    for candidate in (path, path.with_name(path.name + "-shm")):
        if candidate.exists():
            inodes.add(str(candidate.stat().st_ino))
    holders: dict[int, str] = {}
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return "another process"
    for line in lines:
        fields = line.split()
        if "->" in fields or len(fields) < 6 or fields[3] != "WRITE" or fields[5].split(":")[-1] not in inodes:
            continue
        process = int(fields[4])
        if process not in (os.getpid(), -1, 0):
            holders[process] = _command(process)
    if not holders:
        return "another process"
    return ", ".join(f"process {process} ({command})" for process, command in sorted(holders.items()))


def _command(process: int) -> str:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "its command is not to be seen"
    return words[:120]
