"""``python -m apps.style_transfer``."""

from __future__ import annotations

import sys

from apps.style_transfer.allocation import keep_memory
from apps.style_transfer.cli import run


def main() -> None:
    """Run the command line and leave with its exit status."""
    keep_memory()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
