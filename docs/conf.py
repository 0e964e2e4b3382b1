"""Settings of Sphinx. Nothing is fetched: no inventories of other projects, no fonts, no scripts from elsewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

project = "unroll-style"
author = "The unroll-style developers"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
exclude_patterns = [
    "gallery/**/*.ipynb",
    "gallery/**/*.py",
    "gallery/**/*.json",
    "gallery/**/*.zip",
    "gallery/**/*.md5",
]

html_theme = "furo"
html_title = "unroll"
html_static_path = ["_static"]
html_css_files = ["plain.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}

myst_heading_anchors = 3
suppress_warnings = ["config.cache", "myst.xref_missing"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "imported-members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "notes_style"), ("Sources", "notes_style")]

sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples" / "gallery"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "download_all_examples": False,
    "show_signature": False,
    "capture_repr": (),
    "show_memory": False,
    "min_reported_time": 3600,
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "within_subsection_order": "FileNameSortKey",
    "write_computation_times": False,
    "image_scrapers": ("matplotlib",),
    "default_thumb_file": None,
}

# The docstrings are plain text with formulas in it. What markup would take for its own there is said to be text, and an
# indented formula to be one.
VERBATIM = re.compile(r"(``.+?``|:[a-z:]+:`[^`]+`|`[^`]+`_)")
MARKS = re.compile(r"([\\*|])|(?<=\w)(_)(?=\W|$)")


def _escape(line: str) -> str:
    pieces = VERBATIM.split(line)
    pieces[::2] = [MARKS.sub(lambda m: "\\" + m.group(), piece) for piece in pieces[::2]]
    return "".join(pieces)


def plain(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make valid reStructuredText of a docstring, in place."""
    found: list[str] = []
    quoted = False
    for i, line in enumerate(lines):
        before = next((other for other in reversed(lines[:i]) if other.strip()), "")
        indented = line.startswith("    ")
        if line.strip() and not indented:
            quoted = False
        if indented and not quoted and i and not lines[i - 1].strip() and before and not before.startswith(" "):
            quoted = True
            found += ["::", ""]
        keep = quoted or line.startswith((">>>", "...", "===")) or before.startswith(">>>")
        found.append(line if keep else _escape(line))
    lines[:] = found


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", plain, priority=100)
