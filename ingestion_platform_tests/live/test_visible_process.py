"""The process that makes rows of landed alerts: it is there when it is needed, and gone when nobody needs it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pytest

from ingestion_platform.errors import NotMaterialized
from ingestion_platform.live import visible_process
from ingestion_platform.live.visible_process import VisibleProcess
from ingestion_platform.warehouse import Warehouse
from ingestion_platform_tests.live.shop import Shop
from ingestion_platform_tests.sinks.telling import land, some_alert

DAY = some_alert().day
WITHIN_SECONDS = 60.0


def opened(folder: Path) -> Warehouse:
    """A warehouse of the shop, in whichever process."""
    return Shop(folder, has_tables=False).warehouse()


def failing(_: Path) -> Warehouse:
    """Ends the process that asks for it, as a lack of memory does."""
    os._exit(9)


def raising(_: Path) -> Warehouse:
    """An error that nobody foresaw."""
    raise RuntimeError("nobody foresaw this")


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + WITHIN_SECONDS
    while not holds():
        assert time.monotonic() < end, "it never held"
        time.sleep(0.05)


def is_there(pid: int) -> bool:
    """Whether a process lives."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def rows(folder: Path) -> list[str]:
    """The alerts that are rows."""
    with opened(folder) as warehouse, suppress(NotMaterialized):
        return sorted(row["deserved_by"] for row in warehouse.read("processed.alerts").to_pylist())
    return []


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A deployment."""
    return Shop(tmp_path, has_tables=False)


@pytest.fixture
def visible(tmp_path: Path, shop: Shop) -> Iterator[VisibleProcess]:
    """A process that works for it."""
    seen: list[date] = []
    one = VisibleProcess(partial(opened, tmp_path), lambda day, _: seen.append(day))
    one.start()
    yield one
    one.close()
    assert one.pid is None or not is_there(one.pid)


def put(shop: Shop, *numbers: int) -> list[tuple[date, str]]:
    """Land alerts, each in an object of its own."""
    return [(DAY, land(shop.zone, [some_alert(number)])) for number in numbers]  # type: ignore[arg-type]  # it only puts


def test_alerts_are_rows_at_once_and_what_is_left_is_made_at_the_end(
    tmp_path: Path, shop: Shop, visible: VisibleProcess
) -> None:
    """What landed before its first alert of the day, too, whoever landed it."""
    put(shop, 1)
    visible.landed(put(shop, 2))
    until(lambda: len(rows(tmp_path)) == 2)
    visible.landed(put(shop, 3))
    visible.landed(put(shop, 4, 5))
    visible.close()
    assert rows(tmp_path) == [f"T{number:06}" for number in range(1, 6)]


def test_one_that_dies_is_started_again_and_misses_nothing(
    tmp_path: Path, shop: Shop, visible: VisibleProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often: what it was told of and hadn't done is done by the next."""
    numbers = iter(range(100))
    for _ in range(3):
        until(lambda: visible.pid is not None and is_there(visible.pid))
        visible.landed(put(shop, *(next(numbers) for _ in range(4))))
        assert visible.pid is not None
        with suppress(ProcessLookupError):
            os.kill(visible.pid, signal.SIGKILL)
        visible.landed(put(shop, next(numbers)))
    expected = [f"T{number:06}" for number in range(next(numbers))]
    until(lambda: rows(tmp_path) == expected)


@pytest.mark.parametrize("open_warehouse", [failing, raising])
def test_one_that_always_dies_holds_nobody_up(
    tmp_path: Path, shop: Shop, caplog: pytest.LogCaptureFixture, open_warehouse: Callable[[Path], Warehouse]
) -> None:
    """They have landed: the sensor makes rows of them. It is said each time, also where only a thread of it has ended."""
    visible = VisibleProcess(partial(open_warehouse, tmp_path))
    visible.start()
    visible.landed(put(shop, 1))
    until(lambda: caplog.text.count("has died") >= 2)
    began = time.monotonic()
    visible.close()
    assert time.monotonic() - began < WITHIN_SECONDS


def test_only_so_many_days_are_looked_at_again(tmp_path: Path) -> None:
    """The newest: what is older is the sensor's."""
    visible = VisibleProcess(partial(opened, tmp_path))
    visible.landed((DAY + timedelta(days=number), "key") for number in range(30))
    assert len(visible._last) == visible_process.MOST_DAYS
    assert max(visible._last) == DAY + timedelta(days=29)


def test_it_ends_when_its_parent_is_killed(tmp_path: Path, shop: Shop) -> None:
    """And makes rows of what it was told of first; a signal that ends all processes of a group ends it no sooner."""
    keys = [key for _, key in put(shop, 7, 8)]
    program = (
        "import sys, threading, time\n"
        "from functools import partial\n"
        "from pathlib import Path\n"
        "from ingestion_platform.live.visible_process import VisibleProcess\n"
        "from ingestion_platform_tests.live.test_visible_process import DAY, opened\n"
        "if __name__ == '__main__':\n"
        "    is_visible = threading.Event()\n"
        "    visible = VisibleProcess(partial(opened, Path(sys.argv[1])), lambda *_: is_visible.set())\n"
        "    visible.start()\n"
        "    visible.landed([(DAY, sys.argv[2])])\n"
        "    is_visible.wait()\n"
        "    print(visible.pid, flush=True)\n"
        "    sys.stdin.readline()\n"
        "    visible.landed([(DAY, sys.stdin.readline().strip())])\n"
        "    print('told', flush=True)\n"
        "    time.sleep(600)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(program)
    command = [sys.executable, str(script), str(tmp_path), keys[0]]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(command, env=environment, **pipes) as parent:  # type: ignore[call-overload]
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        (last,) = put(shop, 9)
        parent.stdin.write(f"go on\n{last[1]}\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "told\n"
        time.sleep(0.2)
        parent.kill()
    until(lambda: not is_there(pid))
    assert rows(tmp_path) == ["T000007", "T000008", "T000009"]
