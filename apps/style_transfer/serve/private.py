"""A private temporary folder that goes with its process, killed or not."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from apps.style_transfer.files.writing import lock

PREFIX = "unroll-style-"
_LOCK = ".in-use"


class Private:
    """A folder of mode 0700, locked while this process lives. The next one removes what a killed one has left."""

    def __init__(self) -> None:
        clear_stale()
        self._outer = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._handle = os.open(self._outer / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        lock(self._handle)
        self.folder = self._outer / "jobs"
        self.folder.mkdir(mode=0o700)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self._outer, ignore_errors=True)
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def clear_stale() -> list[Path]:
    """Remove our folders whose processes are gone, and return them; those of other users are let alone."""
    if not hasattr(os, "getuid"):
        return []  # without locks nobody knows
    cleared = []
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if lock(handle):
                    shutil.rmtree(folder, ignore_errors=True)
                    cleared.append(folder)
            finally:
                os.close(handle)
    return cleared
