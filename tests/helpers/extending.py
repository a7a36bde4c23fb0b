"""The files that docs/extending.md shows, as a newcomer would write them down."""

import re
import shutil
from pathlib import Path

from helpers import ROOT

BLOCK = re.compile(r"^`([\w./-]+)`\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def documented() -> dict[str, str]:
    """Path below the project → content."""
    return dict(BLOCK.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")))


def project_with(paths: list[str], folder: Path) -> Path:
    """A copy of the project with just these files of the page added; none of them is there already."""
    files = documented()
    for name in ("src", "configs", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for path in paths:
        assert not (folder / path).exists(), f"{path} is there already"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(files[path], encoding="utf-8")
    return folder
