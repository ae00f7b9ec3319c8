"""A disk that dies at one write, as for a process that is killed there: nothing reaches it any more."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

from running import Killed

WRITES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree")


class Disk:
    """Counts the writes below a folder, and raises `Killed` at one of them and at all after it."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.dies_at: int | None = None
        self.writes: list[str] = []
        sys.addaudithook(self._look)

    @contextmanager
    def watched(self, folder: Path, dies_at: int | None = None):
        self.folder, self.dies_at, self.writes = str(folder), dies_at, []
        try:
            yield self.writes
        finally:
            self.folder = None

    def _look(self, event: str, arguments: tuple) -> None:
        if self.folder is None or event not in WRITES or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.fspath(arguments[0])
        if not str(path).startswith(self.folder):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if "lock" in os.path.basename(path):
            return
        self.writes.append(f"{event} {path[len(self.folder) :]}")
        if self.dies_at is not None and len(self.writes) > self.dies_at:
            folder, self.folder = self.folder, None
            if len(self.writes) == self.dies_at + 1 and event == "open" and os.path.isfile(path):
                os.truncate(path, os.path.getsize(path) // 2)  # in the middle of a write
            self.folder = folder
            raise Killed(self.writes[-1])
