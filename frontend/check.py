"""What must hold of a program whatever the config: names, uses, counts, kinds of declarations.

Sizes and formats are checked per use, while the model is built (`evaluate.py`); everything here
also covers blocks that the config at hand does not use. `check_section.py` has the config section
and the layer table, `check_body.py` the bodies of blocks.
"""

from __future__ import annotations

from supertile.frontend import syntax
from supertile.frontend.builtins import BUILTINS
from supertile.frontend.check_body import CONSTANTS, BodyCheck, check_kind
from supertile.frontend.check_section import check_section
from supertile.frontend.program import Program
from supertile.ir.errors import UserError
from supertile.ir.types import ELEMENTS

SCALES = ("f8e8m0", "f32")
SCALED_KEYWORDS = ("inputs", "result", "after")
TRANSFORMS = ("hadamard",)
BLOCK_AXES = 2  # of the blocks of a scaled format


def check_program(program: Program) -> None:
    """Raise the first error, by kind of definition, then in the order of the text."""
    for name, where in program.defined.items():
        if name in BUILTINS or name in ELEMENTS or name in CONSTANTS:
            raise UserError("language.builtin_name", where, name=name)
    used: set[str] = set()
    check_section(program, used)
    for item in program.formats.values():
        _check_format(item)
    for block in (*program.blocks.values(), *program.entries.values()):
        BodyCheck(program, block, used).run()
    for name, bind in program.binds.items():
        if name not in used:
            raise UserError("language.unused", bind.where, what="config name", name=name)


def _check_format(item: syntax.Format) -> None:
    """`scaled(element, scale, [sizes], ...)`, or the name of another format."""
    value = item.value
    if isinstance(value, syntax.Name):
        return
    if not isinstance(value, syntax.Call) or getattr(value.callee, "name", "") != "scaled":
        raise UserError("language.format", value.where)
    positional = [a for a in value.arguments if not isinstance(a, syntax.Keyword)]
    names = [a for a in positional[:2] if isinstance(a, syntax.Name)]
    if len(positional) != 3 or len(names) != 2:
        raise UserError("language.format", value.where)
    block = positional[2]
    items = block.items if isinstance(block, syntax.Sequence) else ()
    numbers = [item for item in items if isinstance(item, syntax.Number) and _is_size(item.value)]
    if not 1 <= len(items) <= BLOCK_AXES or len(numbers) != len(items):
        raise UserError("language.format_block", block.where)
    if names[1].name not in SCALES:
        raise UserError("language.format_scale", names[1].where, found=names[1].name)
    free = list(SCALED_KEYWORDS)
    for argument in value.arguments:
        if isinstance(argument, syntax.Keyword):
            _check_format_keyword(argument, free)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _check_format_keyword(keyword: syntax.Keyword, free: list[str]) -> None:
    if keyword.name not in free:
        raise UserError(
            "language.keyword",
            keyword.where,
            name="scaled",
            keyword=keyword.name,
            wanted=", ".join(SCALED_KEYWORDS) + ", each once",
        )
    free.remove(keyword.name)
    if not isinstance(keyword.value, syntax.Name):
        raise UserError("language.format_keyword", keyword.value.where, name=keyword.name)
    if keyword.name == "after":
        check_kind(keyword.value, TRANSFORMS)
