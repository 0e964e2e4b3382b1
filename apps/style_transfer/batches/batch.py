"""Many pictures: which are to be made, by which engine, and a record of what was, so that a run can be taken up again.

Nothing here knows what is done to a picture: ``work(task)`` is any callable that can be pickled and writes
``task.output``, whole or not at all.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apps.style_transfer.batches.engines import Engine, Local, Outcome, Task, Work
from apps.style_transfer.batches.manifest import MANIFEST, Manifest, fingerprint
from apps.style_transfer.files.formats import IMAGE_SUFFIXES
from apps.style_transfer.files.raster import ImageError
from apps.style_transfer.files.writing import clear_partial

EXISTING = ("refuse", "skip", "overwrite")


@dataclass(frozen=True)
class Report:
    """What a run has done.

    Attributes:
        done, skipped: how many pictures were made, and how many were there already.
        outdated: of those skipped, the ones that the manifest says were made of other files or with other options.
        failed: the others, with what went wrong.
        seconds: wall time.
    """

    done: int
    skipped: int
    outdated: tuple[Task, ...] = ()
    failed: tuple[Outcome, ...] = field(default=())
    seconds: float = 0.0


def expand(sources: Iterable[str | Path]) -> list[Path]:
    """Return the pictures that files, folders and patterns stand for, each once, in order.

    A folder is the pictures directly in it, by name; a pattern, such as ``shots/*.jpg`` or ``shots/**/*.jpg``, those
    that match it; hidden files are neither. What exists by a name is never taken for a pattern.

    Raises:
        ImageError: where a folder or a pattern stands for nothing.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if _is_picture(p))
            if not inside:
                raise ImageError(
                    f"{path} is a folder without pictures: give one with JPEG, PNG, TIFF or other pictures"
                )
        elif stands_for_many(source):
            inside = sorted(p for name in glob.iglob(str(source), recursive=True) if _is_picture(p := Path(name)))
            if not inside:
                raise ImageError(f"no picture matches {source}: check the pattern")
        else:
            inside = [path]
        found |= dict.fromkeys(inside)
    return list(found)


def stands_for_many(source: str | Path) -> bool:
    """Return whether this is a folder or a pattern, and not one file."""
    path = Path(source)
    return path.is_dir() or (not path.exists() and glob.has_magic(str(source)))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def plan(
    contents: Iterable[str | Path],
    styles: Mapping[str, Sequence[Path]],
    output: Path | None = None,
    *,
    suffix: str | None = None,
) -> list[Task]:
    """Return the tasks of all contents times all styles: ``OUTPUT/{content}_stylized_{style}{suffix}``.

    Pictures that this or an earlier run has written are not taken for contents, even where the output folder is that
    of the contents.

    Args:
        contents: files, folders, patterns; see :func:`expand`.
        styles: the files that each style is made of, by the name it has in those of the results.
        output: the folder of the results; None is the current one. It need not exist.
        suffix: of the results, with its dot; None is each content's own.

    Raises:
        ImageError: where two results would have one name, or one the name of an input.
    """
    folder = Path() if output is None else output
    place = _Places()
    made = {place(folder / name) for name, _ in Manifest.read(folder / MANIFEST)}
    sources = [p for p in expand(contents) if place(p) not in made]
    tasks = [
        Task(content, name, folder / f"{content.stem}_stylized_{name}{suffix or content.suffix}", tuple(files))
        for content in sources
        for name, files in styles.items()
    ]
    outputs = {place(task.output) for task in tasks}
    left = [task for task in tasks if place(task.content) not in outputs]
    inputs = {place(p): p for task in left for p in (task.content, *task.sources)}
    taken: dict[Path, Task] = {}
    for task in left:
        at = place(task.output)
        if at in inputs:
            raise ImageError(f"the output {task.output} is the input {inputs[at]}: choose another output folder")
        other = taken.setdefault(at, task)
        if other is not task:
            raise ImageError(
                f"{other.content} and {task.content} would both become {task.output}: "
                "rename one, or give them to different output folders"
            )
    return left


class _Places:
    """Paths without links and dots in their folders; each folder is looked at once, be there a million files in it."""

    def __init__(self) -> None:
        self._folders: dict[Path, Path] = {}

    def __call__(self, path: Path) -> Path:
        if path.parent not in self._folders:
            self._folders[path.parent] = path.parent.resolve()
        return self._folders[path.parent] / path.name


def run(
    tasks: Sequence[Task],
    work: Work,
    *,
    existing: str = "refuse",
    options: str = "",
    engine: Engine | None = None,
    progress: Callable[[Outcome], None] | None = None,
) -> Report:
    """Do the tasks, all with one output folder, and record them in ``unroll-style.jsonl`` there.

    A task that fails does not keep the others from being done. Killed at any moment, a run leaves no half-written
    picture; the next one clears away what lies beside, and with ``existing="skip"`` does what is missing and no more.

    Args:
        tasks: of :func:`plan`.
        work: makes one picture.
        existing: what is done where an output exists: "refuse" all, before any work; "skip" it; "overwrite" it.
        options: whatever tells this work from other work, for the record.
        engine: where the work is done; None is this process.
        progress: called after each task.

    Raises:
        ImageError: where outputs exist and are to be refused, or the folder cannot be written into, or another run
            is at work there.
    """
    if existing not in EXISTING:
        raise ValueError(f"existing must be one of {', '.join(EXISTING)}, got {existing!r}")
    folders = {task.output.parent for task in tasks}
    if len(folders) != 1:
        raise ValueError(f"the tasks of a run have one output folder, not {len(folders)}")
    folder = folders.pop()
    began = time.perf_counter()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"cannot make the folder {folder} ({error.strerror}): choose another with -o") from None
    there = {entry.name for entry in folder.iterdir()}
    present = [task for task in tasks if task.output.name in there]
    if present and existing == "refuse":
        raise ImageError(
            f"{len(present)} of {len(tasks)} outputs exist, {present[0].output} for one: say --skip-existing to make "
            "the others, --overwrite to make all anew, or give another folder with -o"
        )
    if existing == "overwrite":
        present = []
    done, outdated, failed = 0, [], []
    with Manifest.open(folder / MANIFEST) as manifest:
        clear_partial(folder)
        for task in present:
            known = manifest.made.get(task.output.name)
            if known is None:  # made, but the run was killed before it could say so
                manifest.add(task, "found", options)
            elif known != fingerprint(task, options):
                outdated.append(task)
        skipped = {task.output for task in present}
        missing = [task for task in tasks if task.output not in skipped]
        for outcome in (engine or Local()).run(work, missing):
            if outcome.error is None:
                done += 1
                manifest.add(outcome.task, "done", options, seconds=outcome.seconds)
            else:
                failed.append(outcome)
                manifest.add(outcome.task, "failed", options, seconds=outcome.seconds, error=outcome.error)
            if progress is not None:
                progress(outcome)
        clear_partial(folder)
    return Report(done, len(skipped), tuple(outdated), tuple(failed), time.perf_counter() - began)
