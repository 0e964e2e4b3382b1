"""Files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text beside the path and rename it. Raises ValueError, in one line, where that cannot be."""
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist: create it first")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give a file name")
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(beside, 0o644)
            os.replace(beside, path)
        finally:
            Path(beside).unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another path"
        ) from None
