"""What `--loads` takes: a file of loads, several to be added up, or the text of made-up ones."""

from __future__ import annotations

import os
from collections.abc import Sequence

from supertile.ir.errors import UserError
from supertile.targets.plan.load_files import PATTERN, SUFFIXES, loads_files, read_loads
from supertile.targets.plan.load_text import is_loads_text, parse_loads_text
from supertile.targets.plan.loads import Loads
from supertile.targets.plan.model import ExpertLayers
from supertile.targets.plan.parametric import Tables, parametric_loads


def is_law(argument: str) -> bool:
    """Whether it begins with the name of a law, or is no file and does not look like one, so that
    it is taken for a text with a mistake."""
    if is_loads_text(argument):
        return True
    suffix = os.path.splitext(argument)[1].lower()
    looks = os.sep in argument or suffix in SUFFIXES or PATTERN.search(argument) is not None
    return not (looks or os.path.exists(argument))


def named_loads(arguments: Sequence[str]) -> list[str]:
    """One law, or the files that the arguments name. Errors: `loads.laws`, those of
    `load_files.loads_files`."""
    laws = [argument for argument in arguments if is_law(argument)]
    if laws and len(arguments) > 1:
        raise UserError("loads.laws", found=laws[0])
    return list(arguments) if laws else loads_files(arguments)


def loads_from(
    arguments: str | Sequence[str], model: ExpertLayers, tables: Tables | None = None
) -> Loads:
    """The loads that the arguments name; `tables` are for layers that choose by token id."""
    named = named_loads([arguments] if isinstance(arguments, str) else arguments)
    if is_law(named[0]):
        return parametric_loads(parse_loads_text(named[0]), model, tables)
    return read_loads(named, model)
