"""
Alerts in a log: lines of JSON at the end of a file, or the program's own log.

Belongs here: writing lines. Doesn't: what they say (`message.py`).
"""

import logging
import os
from pathlib import Path

from ingestion_platform.errors import SinkUnavailable
from ingestion_platform.sinks.message import Message
from ingestion_platform.sinks.sink import Sink

log = logging.getLogger("ingestion_platform.told")


class LogLines:
    """
    Writes a line for each message. The file is opened for each, so that it may be moved away and begins anew.

    Args:
        sink: whose `where` is the file; empty: the program's log.
    """

    def __init__(self, sink: Sink) -> None:
        where = sink.where.get_secret_value()
        self._name = sink.name
        self._file = Path(where) if where else None

    def send(self, message: Message) -> None:
        """Write it."""
        if self._file is None:
            # Every line of a text belongs to one entry: nothing in it can pass for another one.
            log.warning("%s", message.text().replace("\n", "\n    "))
            return
        line = message.body() + b"\n"
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640), "r+b", buffering=0) as file:
                # A kill or a full disk in the midst of a line leaves one without an end: the next one mustn't be added to it.
                size = os.fstat(file.fileno()).st_size
                if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                    line = b"\n" + line
                if os.write(file.fileno(), line) != len(line):
                    raise SinkUnavailable(f"sink {self._name!r}: the line was written in part", "is the disk full?")
                os.fsync(file.fileno())
        except (OSError, ValueError) as error:
            raise SinkUnavailable(
                f"sink {self._name!r}: its file can't be written: {getattr(error, 'strerror', None) or error}",
                "check `where`, its folder's rights and the disk",
            ) from error

    def close(self) -> None:
        """Nothing is held."""
