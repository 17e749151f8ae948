"""The command ``serverless-bees``; without the extra ``cli`` it says what to install."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Runs the command line."""
    missing = [package for package in ("typer", "rich") if find_spec(package) is None]
    if missing:
        sys.exit(f"serverless-bees: the command line needs {' and '.join(missing)}: pip install 'serverless-bees[cli]'")
    from .cli import app

    app(prog_name="serverless-bees")


if __name__ == "__main__":
    main()
