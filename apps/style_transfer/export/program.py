"""Tracing the learned solver for pictures of every size, and writing it down."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from apps.style_transfer.export.guided import PROJECTORS, TraceableGuidedFilter
from apps.style_transfer.files.images import SMALLEST_SIDE
from apps.style_transfer.files.writing import writing
from apps.style_transfer.learned.update import EncodedStyle
from apps.style_transfer.projectors import ProjectorOptions
from apps.style_transfer.solvers import Learned
from graphs import Around
from unroll import Unrolled

OPSET = 23
"""Of ONNX."""
AXES = {"content": {2: "height", 3: "width"}, "style": {2: "style_height", 3: "style_width"}}


class Portable(nn.Module):
    """content, style -> image: the learned solver from pictures to a picture, with everything else fixed.

    Images (1, 3, H, W) and (1, 3, H', W'), RGB in [0, 1], at least 16 pixels each way; the result has the size of the
    content and is clipped to [0, 1]. Strokes are as large beside the content as the style image is.

    Args:
        solver: the learned solver, see :func:`apps.style_transfer.load_solver`.
        style: H^s, where it is fixed too; the content is then the only input.
        projector: P of the steps, of those that :data:`PROJECTORS` names, whole.
        alpha: scale of the steps.
    """

    def __init__(
        self,
        solver: Unrolled,
        style: EncodedStyle | None = None,
        *,
        projector: ProjectorOptions | None = None,
        alpha: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha must be a number of at least 0, got {alpha:g}")
        projector = projector or ProjectorOptions()
        carried = projector.name in PROJECTORS and projector.domain == "difference" and projector.strength == 1
        if not carried or projector.again:
            names = " or ".join(PROJECTORS)
            raise ValueError(f"a solver can be exported with {names} on the difference, whole, in its own steps")
        learned = Learned(solver, alpha=alpha)
        self.unrolled, self.update = learned.unrolled, learned.update
        self.encoded, self.projector = style, projector

    def forward(self, content: Tensor, style: Tensor | None = None) -> Tensor:
        """Return the image."""
        encoded = self.encoded if style is None else self.update.encode(style)
        projector = None
        if self.projector.name == "guided":
            projector = Around(TraceableGuidedFilter(content, self.projector.radius, self.projector.eps), content)
        image: Tensor = self.unrolled(content, encoded, projector=projector).x.clamp(0, 1)
        return image


@torch.no_grad()
def trace(solver: Portable) -> ExportedProgram:
    """Return the solver as one program for every H, W, H', W' from 16 on. Cost: seconds to a minute."""
    # Sizes of the example that coincide, or are even, could be taken for a rule.
    example = {"content": torch.rand(1, 3, 50, 67), "style": torch.rand(1, 3, 41, 35)}
    if solver.encoded is not None:
        del example["style"]
    free = {2: Dim.DYNAMIC(min=SMALLEST_SIDE), 3: Dim.DYNAMIC(min=SMALLEST_SIDE)}
    with _quiet():
        program: ExportedProgram = torch.export.export(
            solver.eval(), tuple(example.values()), dynamic_shapes=dict.fromkeys(example, free)
        )
        # What is left are the operators of ATen: a file has no place for autocast blocks.
        program = program.run_decompositions({})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # of no use elsewhere, and full of the paths of this machine
    return program


def write(program: ExportedProgram, path: Path, kind: str) -> None:
    """Write a traced solver, whole or not at all: an .onnx file, or a .pt2 file for ``torch.export.load``.

    Raises ValueError where it cannot be written, or where the packages that ONNX asks for are missing.
    """
    if kind == "torch":
        with writing(path, suffix=".pt2") as beside, _quiet():
            torch.export.save(program, beside)
        return
    try:
        translations = _translations()
    except ImportError as error:
        raise ValueError(f"ONNX needs {error.name}: pip install 'unroll-style[onnx]'") from None
    with _quiet():
        graph = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            output_names=["image"],
            custom_translation_table=translations,
            dynamic_shapes={name: axes for name, axes in AXES.items() if name in program.graph_signature.user_inputs},
        )
    assert graph is not None  # what it returns where it is given a model of the old kind
    with writing(path, suffix=".onnx") as beside:
        graph.save(beside)


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return what PyTorch translates otherwise: doubling by the size, for it takes the scale and forgets the size."""
    import onnx  # noqa: F401
    from onnxscript import INT64, opset23

    opset: Any = opset23  # which counts lists of numbers among its types, and no constants

    def doubled(d: Any, size: INT64, scales_h: float | None = None, scales_w: float | None = None) -> Any:
        whole = opset.Resize(
            d,
            None,
            opset.Constant(value_floats=[1.0, 1.0, 2.0, 2.0]),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return opset.Slice(whole, opset.Constant(value_ints=[0, 0]), size, opset.Constant(value_ints=[2, 3]))

    return {torch.ops.aten.upsample_nearest2d.default: doubled}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to themselves what the exporters have to say to those who write them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
