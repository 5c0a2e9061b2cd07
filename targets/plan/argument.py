"""What `--loads` takes: a file of loads, or the text of made-up ones."""

from __future__ import annotations

import os

from supertile.targets.plan.load_files import SUFFIXES, read_loads
from supertile.targets.plan.load_text import is_loads_text, parse_loads_text
from supertile.targets.plan.loads import Loads
from supertile.targets.plan.model import ExpertLayers
from supertile.targets.plan.parametric import Tables, parametric_loads


def loads_from(argument: str, model: ExpertLayers, tables: Tables | None = None) -> Loads:
    """The loads that the argument names; `tables` are for layers that choose by token id.

    A text begins with the name of a law. What is no file, and has no suffix of one, is taken for
    a text with a mistake.
    """
    is_file = os.path.exists(argument) or os.path.splitext(argument)[1].lower() in SUFFIXES
    if is_loads_text(argument) or not (is_file or os.sep in argument):
        return parametric_loads(parse_loads_text(argument), model, tables)
    return read_loads(argument, model)
