"""A long job in a folder, found again after an interruption."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from apps.style_transfer.files.writing import clear_partial, write_whole
from apps.style_transfer.tiles.canvas import Canvas, Rows


class Job:
    """The iterates of a solver in a folder, and a manifest that says which of them is whole and of what inputs.

    Args:
        work: the folder, made if it is not there; None is a temporary one, which goes if the ``with`` block fails.
        shape: (3, H, W).

    Attributes: ``done``, how many steps are finished.
    """

    def __init__(self, work: Path | None, shape: tuple[int, int, int]) -> None:
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="tiles-")) if work is None else work
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot work in {work or tempfile.gettempdir()} ({error.strerror})") from None
        self._temporary = work is None
        clear_partial(self._folder)  # of the manifest, from a killed job; the folder could not go with the result
        self._shape = shape
        self._manifest = self._folder / "job.json"
        self._inputs = ""
        self.done = 0

    def begin(self, content: Rows, others: hashlib._Hash, strip: int) -> None:
        """Write iterate 0, and find the last one that a job of the same content and other inputs has finished."""
        first = Canvas.create(self.canvas(0).path, self._shape)
        for where in first.strips(strip):
            pixels = content.rows(where.top, where.bottom).detach().cpu().float()
            others.update(np.ascontiguousarray(pixels.numpy()).data)
            first.write(where, pixels[None])
        self._inputs = others.hexdigest()
        self.done = self._found()
        for path in self._folder.glob("iterate-*.f32"):
            if path not in (first.path, self.canvas(self.done).path):
                path.unlink(missing_ok=True)

    def _found(self) -> int:
        try:
            written = json.loads(self._manifest.read_text(encoding="utf-8"))
            same, done = written["inputs"] == self._inputs, int(written["done"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return done if same and self.canvas(done).whole() else 0

    def canvas(self, t: int) -> Canvas:
        """Return iterate t."""
        return Canvas(self._folder / f"iterate-{t}.f32", self._shape)

    def finished(self, t: int, *, keep_first: bool) -> None:
        """Note that iterate t is whole, and drop the one before, but for the first if that is to be kept."""
        write_whole(self._manifest, json.dumps({"inputs": self._inputs, "done": t}))
        self.done = t
        if t > 1 or not keep_first:
            self.canvas(t - 1).path.unlink(missing_ok=True)

    def result(self) -> Canvas:
        """Return the last iterate, which takes the rest of the folder with it when it is closed."""
        if self.done:
            self.canvas(0).path.unlink(missing_ok=True)
        return Canvas(self.canvas(self.done).path, self._shape, beside=(self._manifest, self._folder))

    def __enter__(self) -> Job:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Remove a temporary folder if the block failed."""
        if kind is not None and self._temporary:
            with contextlib.suppress(OSError):
                shutil.rmtree(self._folder)
