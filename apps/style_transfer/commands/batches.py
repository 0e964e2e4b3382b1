"""The options of ``stylize`` about files: which are read, where the results go, and how many are made at once."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from apps.style_transfer.batches.batch import Report, expand, plan, stands_for_many
from apps.style_transfer.batches.batch import run as run_batch
from apps.style_transfer.batches.engines import Engine, Local, Outcome, Task
from apps.style_transfer.batches.restyling import Recipe, Restyling, summary
from apps.style_transfer.commands.common import add_overwrite
from apps.style_transfer.files.encode import check_output
from apps.style_transfer.files.formats import IMAGE_SUFFIXES, format_of
from apps.style_transfer.files.raster import MAX_PIXELS
from apps.style_transfer.files.writing import clear_partial
from apps.style_transfer.style import gallery, read_style, style_name
from apps.style_transfer.tiles.large import MEMORY

log = logging.getLogger("apps.style_transfer")


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    option = parser.add_argument
    option(
        "-o",
        "--output",
        type=Path,
        help="a file, or a folder (default: the current one) for CONTENT_stylized_STYLE of the kind of each content",
    )
    kinds = sorted(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
    option("--format", choices=kinds, help="kind of the results, where -o names no file")
    existing = parser.add_mutually_exclusive_group()
    add_overwrite(existing)
    existing.add_argument(
        "--skip-existing", action="store_true", help="make what is missing alone: takes a run up again"
    )
    option("--jobs", type=int, default=1, metavar="N", help="processes that share the pictures (default: %(default)s)")
    option("--engine", choices=("local", "ray"), default="local", help="ray: the machines of a Ray cluster")
    option(
        "--max-megapixels",
        type=float,
        default=MAX_PIXELS / 1e6,
        metavar="M",
        help="larger pictures are refused by their header (default: %(default)g)",
    )
    option(
        "--memory",
        type=float,
        default=MEMORY / 1e9,
        metavar="GB",
        help="of the learned solver on a CPU; what needs more is restyled tile by tile (default: %(default)g)",
    )


def styles_of(options: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """Return the styles of a command line by name: each source, or all of them blended, as one.

    A source may be a folder or a pattern of pictures. Raises ValueError.
    """
    sources: list[str] = []
    for source in options.style:
        sources += [str(path) for path in expand([source])] if stands_for_many(source) else [source]
    for source in sources:
        if source not in gallery() and not Path(source).is_file():
            read_style(source)  # which says what is wrong
    names = [style_name(source) for source in sources]
    if options.style_weights is not None:
        return {"+".join(names): tuple(sources)}
    found: dict[str, tuple[str, ...]] = {}
    for name, source in zip(names, sources, strict=True):
        if found.setdefault(name, (source,)) != (source,):
            raise ValueError(f"{found[name][0]} and {source} would give results of the same name: rename one of them")
    return found


def tasks_of(options: argparse.Namespace, styles: dict[str, tuple[str, ...]]) -> tuple[list[Task], bool]:
    """Return the tasks of a command line, and whether they are a batch and not one picture."""
    files = {name: [_file(source) for source in sources] for name, sources in styles.items()}
    suffix = None if options.format is None else f".{options.format}"
    contents = expand(options.content)
    output: Path | None = options.output
    if output is None or output.is_dir() or output.suffix.lower() not in IMAGE_SUFFIXES:
        several = len(contents) * len(styles) > 1 or any(map(stands_for_many, options.content))
        if output is not None and not several and not output.is_dir():
            format_of(output)  # which says what is wrong
        return plan(contents, files, output, suffix=suffix), several or options.engine == "ray"
    if len(contents) * len(styles) > 1:
        raise ValueError(f"{output} is one file, and there are several results: give a folder with -o")
    ((name, sources),) = files.items()
    return [Task(contents[0], name, output, tuple(sources))], False


def _file(source: str) -> Path:
    return gallery()[source].path if source in gallery() else Path(source)


def may_make(task: Task, options: argparse.Namespace) -> bool:
    """Return whether a picture is to be made; raises ImageError where it may not be."""
    if options.skip_existing and task.output.exists():
        log.info("%s exists and is left as it is", task.output)
        return False
    check_output(task.output, inputs=[task.content, *task.sources], overwrite=options.overwrite)
    clear_partial(task.output.parent)
    return True


def run_many(tasks: Sequence[Task], recipe: Recipe, options: argparse.Namespace) -> int:
    """Make a batch, say what came of it, and return the exit status: 1 where a picture failed."""
    existing = "overwrite" if options.overwrite else "skip" if options.skip_existing else "refuse"
    digest = hashlib.sha256(json.dumps(summary(recipe), sort_keys=True).encode()).hexdigest()
    with tqdm(total=len(tasks), unit="picture", disable=None, leave=False) as bar:

        def progress(outcome: Outcome) -> None:
            bar.update()
            log.debug("%s: %s", outcome.task.output, outcome.error or f"{outcome.seconds:.2f} s")

        report = run_batch(
            tasks, Restyling(recipe), existing=existing, options=digest, engine=_engine(options), progress=progress
        )
    _tell(report)
    if options.json:
        failed = [{"content": str(o.task.content), "style": o.task.style, "error": o.error} for o in report.failed]
        figures = {"done": report.done, "skipped": report.skipped, "failed": failed, "seconds": report.seconds}
        sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if report.failed else 0


def threads_for(options: argparse.Namespace) -> int | None:
    """Return how many threads each process gets: its share of the cores."""
    return max(1, (os.cpu_count() or 1) // options.jobs) if options.jobs > 1 else None


def _engine(options: argparse.Namespace) -> Engine:
    if options.engine == "local":
        return Local(options.jobs)
    from apps.style_transfer.batches.ray_engine import Ray

    return Ray(gpus=1 if options.device == "cuda" else 0)


def _tell(report: Report) -> None:
    log.info(
        "%d made, %d there already, %d failed: %.0f s", report.done, report.skipped, len(report.failed), report.seconds
    )
    if report.outdated:
        log.warning(
            "%d of those there already, %s for one, were made of other files or with other options: --overwrite makes "
            "them anew",
            len(report.outdated),
            report.outdated[0].output,
        )
    for outcome in report.failed:
        log.error("failed: %s, %s: %s", outcome.task.content, outcome.task.style, outcome.error)
