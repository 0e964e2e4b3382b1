"""The command line: options, one-line errors, exit status."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from apps.style_transfer.demo import demo
from apps.style_transfer.evaluate import Evaluation, evaluate, methods_of, summary
from apps.style_transfer.images import (
    SMALLEST_SIDE,
    Picture,
    check_output,
    read_image,
    resize,
    resize_alpha,
    write_image,
)
from apps.style_transfer.progress import step_bar
from apps.style_transfer.projectors import DOMAINS, PHOTO, PROJECTORS, ProjectorOptions
from apps.style_transfer.report import write_csv, write_html, write_json
from apps.style_transfer.train import OPTIMISERS, Training, train
from apps.style_transfer.transfer import SOLVERS, Options, load_vgg, measure, stylize

log = logging.getLogger("apps.style_transfer")

COMMANDS = ("stylize", "train", "evaluate", "demo")
_BAD_INPUT = 2

# How a RuntimeError says that memory has run out: the CPU's allocator, then those of CUDA and MPS.
_NO_MEMORY = ("can't allocate memory", "out of memory")


class _Parser(argparse.ArgumentParser):
    """argparse with its complaint on one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_BAD_INPUT, f"{self.prog}: {message} (--help lists the options)\n")


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status: 0, 1 (a fault of the program), 2 (bad input), 130 (Ctrl-C)."""
    arguments = list(arguments) or ["demo"]
    if arguments[0] not in (*COMMANDS, "-h", "--help"):
        arguments = ["stylize", *arguments]
    options = _parser().parse_args(arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if options.verbose else logging.INFO)
    try:
        with logging_redirect_tqdm([log]):
            options.run(options)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        message = _explain(error)
        if options.verbose or message is None:
            log.exception("%s failed", options.command)
        if message is not None:
            log.error("unroll-style: %s", message)
        return 1 if message is None else _BAD_INPUT
    finally:
        log.removeHandler(handler)
    return 0


def _explain(error: Exception) -> str | None:
    """Return the one line for an error that the user can mend, None for a fault of the program."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in _NO_MEMORY):
        return "out of memory: make the picture smaller with --size, or choose another --device"
    if isinstance(error, ValueError):
        return text
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else text
    return None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="unroll-style",
        description="Artistic and photorealistic style transfer by learned updates and a projector of your choice.",
        epilog="Without a command, options mean stylize; with no argument at all, the demo runs.",
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    _add_stylize(commands.add_parser("stylize", help="restyle one photograph"))
    _add_train(commands.add_parser("train", help="train the learned solver"))
    _add_evaluate(commands.add_parser("evaluate", help="figures and a report of solvers on pairs of pictures"))
    _add_demo(commands.add_parser("demo", help="restyle the shipped example and draw a contact sheet"))
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("-v", "--verbose", action="store_true", help="say more, and show the traceback of an error")


def _add_parameters(parser: argparse.ArgumentParser) -> None:
    """Add the parameters of projectors and solvers."""
    default, constraint = Options(), ProjectorOptions()
    add = parser.add_argument
    add("--k", type=float, help=f"eigenvectors of the matting projectors, or their share (default: {constraint.k})")
    add("--gamma", type=float, help=f"strength of the tikhonov projectors (default: {constraint.gamma:g})")
    add("--order", type=int, help="order of the matting-chebyshev projector (default: by the cutoff)")
    add("--domain", choices=DOMAINS, help=f"what is projected (default: {constraint.domain} from the photograph)")
    add("--steps", type=int, help="iterations (default: 4 learned, 50 exact)")
    add("--refine", type=int, default=default.refine, help="exact steps from there on (default: %(default)s)")
    add("--alpha", type=float, default=default.alpha, help="scale of every step; 0 returns the photograph")
    add("--content-weight", type=float, default=default.content_weight, help="of the exact solvers; %(default)s")
    add("--style-weight", type=float, default=default.style_weight, help="of the exact solvers; %(default)s")
    add("--photo-weight", type=float, default=default.photo_weight, help="of the luan solver; %(default)s")
    add("--weights", type=Path, default=default.weights, help="another file of learned weights")
    add("--vgg", default=default.vgg, choices=("embedded", "torchvision"), help="the trunk of the losses")


def _add_stylize(parser: argparse.ArgumentParser) -> None:
    default = Options()
    parser.set_defaults(run=_stylize)
    add = parser.add_argument
    add("-c", "--content", type=Path, required=True, help="the photograph")
    add("-s", "--style", type=Path, required=True, help="the picture whose style it takes")
    add("-o", "--output", type=Path, help="where to write (default: CONTENT_stylized_STYLE.png here)")
    add("--solver", default=default.solver, choices=SOLVERS, help="default: %(default)s")
    add("--projector", choices=PROJECTORS, help="what keeps the picture a photograph (default: none)")
    add("--photo", action="store_true", help="the best photorealistic preset; other options still override it")
    add("--size", type=int, help="longest side of the result in pixels (default: that of the photograph)")
    _add_parameters(parser)
    add("--json", action="store_true", help="print figures as the last line on standard output")
    _add_common(parser)


def _add_train(parser: argparse.ArgumentParser) -> None:
    default = Training(photos=(), paintings=(), out=Path(), steps=1)
    parser.set_defaults(run=_train)
    add = parser.add_argument
    add("--photos", type=Path, nargs="+", required=True, help="folders of photographs")
    add("--paintings", type=Path, nargs="+", required=True, help="folders of paintings")
    add("--out", type=Path, required=True, help="folder for weights, checkpoint, log and contact sheet")
    add("--steps", type=int, help="budget in steps")
    add("--minutes", type=float, help="budget in minutes")
    add("--batch", type=int, default=default.batch)
    add("--size", type=int, default=default.size, help="side of the crops; %(default)s")
    add("--large-size", type=int, default=default.large_size, help="side of the crops of the last part")
    add("--large-from", type=float, default=default.large_from, help="share of the budget where it begins")
    add("--distil-steps", type=int, default=default.distil_steps, help="of the forward maps; %(default)s")
    add("--single-steps", type=int, default=default.single_steps, help="of g_0 alone; %(default)s")
    add(
        "--pool",
        type=int,
        default=default.pool,
        help="crops whose features are kept, and steps they serve; %(default)s",
    )
    add("--early", type=float, default=default.early, help="share of the batches that stop before step N; %(default)s")
    add("--hardness", type=float, default=default.hardness, help="0 weighs all pairs alike; %(default)s")
    add("--rate", type=float, default=default.rate, help="of the optimiser; %(default)s")
    add("--optimiser", default=default.optimiser, choices=tuple(OPTIMISERS), help="default: %(default)s")
    add(
        "--plain-share",
        type=float,
        default=default.plain_share,
        help="of that rate for plain gradient steps; %(default)s",
    )
    add("--seed", type=int, default=default.seed)
    add("--resume", action="store_true", help="go on from the checkpoint in OUT, if there is one")
    add("--start-from", type=Path, help="begin with the weights of this file")
    add("--save-minutes", type=float, default=default.save_minutes)
    add("--validation-size", type=int, default=default.validation_size)
    add("--threads", type=int)
    add("--no-bfloat16", dest="bfloat16", action="store_false", help="train in float32 throughout")
    _add_common(parser)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    default = Evaluation(Path(), Path(), Path("out/evaluation"))
    # What stands in the loop is that of each method.
    parser.set_defaults(run=_evaluate, photo=False, projector=None)
    add = parser.add_argument
    add("--contents", type=Path, required=True, help="folder of photographs")
    add("--styles", type=Path, required=True, help="folder of pictures whose style they take")
    add("--pairs", type=Path, help="file with a content's and a style's file name on each line, with a tab between")
    add("--count", type=int, default=default.count, help="pairs drawn where no file names them; %(default)s")
    add("--seed", type=int, default=default.seed, help="of the drawing; %(default)s")
    add("--held-back", action="store_true", help="draw only pictures that the training holds back by their name")
    add("--solvers", type=_names(SOLVERS), default=("learned",), help=f"with commas, of {', '.join(SOLVERS)}")
    add("--projectors", type=_names(PROJECTORS), default=("none",), help=f"with commas, of {', '.join(PROJECTORS)}")
    add("--size", type=int, default=default.size, help="longest side in pixels; %(default)s")
    add("--gatys", type=int, default=default.gatys, help="L-BFGS iterations of the yardstick; %(default)s, 0 for none")
    add("--warm-only", dest="cold", action="store_false", help="leave out the time of the whole program")
    _add_parameters(parser)
    add("--work", type=Path, default=default.work, help="folder for pictures and finished rows; %(default)s")
    add("--json", type=Path, help="write medians, quartiles and all rows here")
    add("--csv", type=Path, help="write all rows here")
    add("--html", type=Path, help="write one page with figures and pictures here")
    _add_common(parser)


def _names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown {unknown[0]!r}: choose from {', '.join(known)}")
        return names

    return read


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_demo)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the sheet; default: %(default)s")
    _add_common(parser)


def _device(name: str) -> torch.device:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if available[d]))
    if not available[name]:
        raise ValueError(f"there is no {name} device here: leave --device out, or say --device cpu")
    return torch.device(name)


def _constraint(options: argparse.Namespace) -> ProjectorOptions:
    preset = PHOTO if options.photo else ProjectorOptions()
    given = {"name": options.projector, "k": options.k, "gamma": options.gamma}
    given |= {"order": options.order, "domain": options.domain}
    return replace(preset, **{name: value for name, value in given.items() if value is not None})


def _given(options: argparse.Namespace, kind: type[Training] | type[Options] | type[Evaluation]) -> dict[str, Any]:
    """Return the options of a command line that are fields of such a record."""
    return {name: value for name, value in vars(options).items() if name in kind.__dataclass_fields__}


def _stylize(options: argparse.Namespace) -> None:
    device = _device(options.device)
    choice = Options(**{**_given(options, Options), "projector": _constraint(options)})
    output = options.output or Path(f"{options.content.stem}_stylized_{options.style.stem}.png")
    check_output(output)
    photograph, painting = read_image(options.content), read_image(options.style)
    content = photograph.rgb
    if options.size is not None:
        if options.size < SMALLEST_SIDE:
            raise ValueError(f"--size must be at least {SMALLEST_SIDE} pixels, got {options.size}")
        content = resize(content, options.size)
    content, style = content.to(device), painting.rgb.to(device)
    with step_bar(choice.solver) as advance:
        result = stylize(content, style, choice, progress=advance)
    alpha = None if photograph.alpha is None else resize_alpha(photograph.alpha, result.image.shape[-2:])
    write_image(output, Picture(result.image, alpha, photograph.icc_profile))
    log.info("%s: %.2f s, %s", choice.solver, result.seconds, output)
    if options.json:
        losses = measure(result, style, load_vgg(choice.vgg, device))
        report = {
            "seconds": result.seconds,
            "content_loss": losses.content,
            "style_loss": losses.style,
            "total_loss": losses.total,
            "solver": choice.solver,
            "projector": result.projector,
            "size": list(result.image.shape[:1:-1]),
            "losses_measured_at": [losses.width, losses.height],
            "device": str(device),
            "options": {k: v for k, v in asdict(choice).items() if k != "weights"},
        }
        sys.stdout.write(json.dumps(report) + "\n")


def _train(options: argparse.Namespace) -> None:
    fields = {"photos": tuple(options.photos), "paintings": tuple(options.paintings)}
    weights = train(Training(**{**_given(options, Training), **fields, "device": str(_device(options.device))}))
    log.info("weights: %s", weights)


def _evaluate(options: argparse.Namespace) -> None:
    for path in (options.json, options.csv, options.html):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise ValueError(f"{path} cannot be written: give a file name in a folder that exists")
    fields = {
        "methods": methods_of(options.solvers, options.projectors, _constraint(options)),
        "options": Options(**{**_given(options, Options), "projector": ProjectorOptions()}),
        "device": str(_device(options.device)),
    }
    evaluation = Evaluation(**{**_given(options, Evaluation), **fields})
    rows = evaluate(evaluation)
    if options.json:
        write_json(options.json, rows)
    if options.csv:
        write_csv(options.csv, rows)
    if options.html:
        write_html(options.html, rows, options.work)
    for method, figures in summary(rows).items():
        shown = "  ".join(f"{name} {found['median']:.4g}" for name, found in figures.items())
        log.info("%s: %s", method, shown)


def _demo(options: argparse.Namespace) -> None:
    sheet = demo(options.out, _device(options.device))
    log.info("the pictures are in %s, side by side in %s", options.out, sheet)
