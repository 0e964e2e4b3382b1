"""The libraries of the extra ``video``, imported where they are needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def pyav() -> ModuleType:
    """Return PyAV; ValueError, in one line, where it is missing."""
    return _import("av", "PyAV")


def opencv() -> ModuleType:
    """Return OpenCV; ValueError, in one line, where it is missing."""
    return _import("cv2", "OpenCV")


def _import(module: str, name: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError:
        raise ValueError(f"video needs {name}: pip install 'unroll-style[video]'") from None
