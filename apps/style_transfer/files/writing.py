"""Files that are whole or not there, and what a killed run left of those that were not."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks on Windows, where an open file cannot be deleted anyway
    fcntl = None  # type: ignore[assignment]

_PARTIAL = re.compile(r"^\..*\.partial-[0-9a-z_]{8}(\.\w+)?$")


@contextmanager
def replacing(path: Path, *, suffix: str = "") -> Iterator[Path]:
    """Give a file beside the path to write to; it takes the path's place if the block ends well, else it goes.

    A process that is killed inside the block leaves the file beside, ``.NAME.partial-*``, and the path as it was.
    """
    handle, beside = _open_partial(path, suffix)
    try:
        yield beside
        os.fsync(handle)  # else a power cut after the renaming may leave an empty file under the final name
        beside.chmod(0o644)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def writing(path: Path, *, suffix: str = "", fault: type[ValueError] = ValueError) -> Iterator[Path]:
    """Do the same, and say in one line where the disk refuses it: a ``fault`` instead of an OSError."""
    try:
        with replacing(path, suffix=suffix) as beside:
            yield beside
    except OSError as error:
        raise fault(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another path"
        ) from None


def clear_partial(folder: Path) -> list[Path]:
    """Delete what killed runs left half-written in a folder, and return it; files being written now are let alone."""
    cleared = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        stale = [Path(entry.path) for entry in entries if _PARTIAL.match(entry.name)]
        for path in stale:
            with suppress(OSError):
                handle = os.open(path, os.O_RDWR)
                try:
                    if lock(handle):
                        path.unlink()
                        cleared.append(path)
                finally:
                    os.close(handle)
    return cleared


def lock(handle: int) -> bool:
    """Take the lock of an open file, which the system gives back when the process ends; False if another has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _open_partial(path: Path, suffix: str) -> tuple[int, Path]:
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:100]}.partial-", suffix=suffix)
        # One that clears the folder may have come between the making and the locking; then again.
        if lock(handle) and os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)


def check_place(
    path: Path,
    *,
    example: str,
    inputs: Iterable[Path] = (),
    overwrite: bool = True,
    otherwise: str = "say --overwrite",
    fault: type[ValueError] = ValueError,
) -> None:
    """Raise a ``fault`` now, before any work, if a file could not or should not have this path.

    It should not where the path is one of the ``inputs``, by whatever name, or, without ``overwrite``, exists.
    ``example`` is a good name, and ``otherwise`` what to say where one exists.
    """
    if path.is_dir():
        raise fault(f"the output {path} is a folder: give a file name such as {path / example}")
    if not path.parent.is_dir():
        raise fault(f"the output folder {path.parent} does not exist: create it first")
    if path.exists():
        for source in inputs:
            if source.exists() and path.samefile(source):
                raise fault(f"the output {path} is the input {source}: give another name with -o")
        if not overwrite:
            raise fault(f"{path} exists: give another name with -o, or {otherwise}")


def write_whole(path: Path, text: str) -> None:
    """Write a text, whole or not at all. Raises ValueError, in one line, where that cannot be."""
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist: create it first")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give a file name")
    with writing(path) as beside:
        beside.write_text(text, encoding="utf-8")
