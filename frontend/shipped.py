"""Which of the shipped model files is for a family of configs."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

MODEL_LINE = re.compile("^model .* for (.*)$", re.MULTILINE)


def shipped_model(family: str) -> Path | None:
    """The shipped model file whose model line names this `model_type`; None if there is none."""
    for path in sorted(Path(str(files("supertile.models"))).glob("*.st")):
        line = MODEL_LINE.search(path.read_text(encoding="utf-8"))
        if line and f'"{family}"' in line[1]:
            return path
    return None
