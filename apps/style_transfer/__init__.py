"""Artistic and photorealistic style transfer by four learned updates and a projector put in at run time.

``Stylizer()("photo.jpg", "hokusai-great-wave", photo=1.0)`` does it from Python with the learned solver,
``stylize(content, style, Options(...))`` with any solver, ``python -m apps.style_transfer`` from the command line. The
pieces are public too: the losses on VGG-19 features, the learned update :class:`GramUpdate` that an
:class:`unroll.Unrolled` solver iterates, the exact solvers, and the training of the weights.
"""

from apps.style_transfer.demo import EXAMPLE_CONTENT, EXAMPLE_STYLE
from apps.style_transfer.files.images import Picture, read_image, resize, write_image
from apps.style_transfer.learned.checkpoint import load_solver
from apps.style_transfer.learned.update import Architecture, GramUpdate
from apps.style_transfer.losses import (
    ContentLoss,
    Perceptual,
    PhotorealismLoss,
    StyleLoss,
    Targets,
    encode_targets,
    reference_objective,
)
from apps.style_transfer.projectors import PHOTO, ProjectorOptions, build_projector
from apps.style_transfer.style import GalleryEntry, Style, blend, gallery
from apps.style_transfer.stylizer import ImageLike, Stylizer
from apps.style_transfer.training.train import Training, train
from apps.style_transfer.transfer import Losses, Options, Result, measure, stylize
from apps.style_transfer.vgg import VGG19

__all__ = [
    "EXAMPLE_CONTENT",
    "EXAMPLE_STYLE",
    "PHOTO",
    "VGG19",
    "Architecture",
    "ContentLoss",
    "GalleryEntry",
    "GramUpdate",
    "ImageLike",
    "Losses",
    "Options",
    "Perceptual",
    "PhotorealismLoss",
    "Picture",
    "ProjectorOptions",
    "Result",
    "Style",
    "StyleLoss",
    "Stylizer",
    "Targets",
    "Training",
    "blend",
    "build_projector",
    "encode_targets",
    "gallery",
    "load_solver",
    "measure",
    "read_image",
    "reference_objective",
    "resize",
    "stylize",
    "train",
    "write_image",
]
