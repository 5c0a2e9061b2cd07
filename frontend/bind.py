"""What a config gives a program: values of its names, formats, cells of the layer table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from supertile.frontend import syntax
from supertile.frontend.config_formats import assumed_formats, check_formats
from supertile.frontend.config_keys import Unread, unread_keys
from supertile.frontend.config_numbers import cut_blocks, remarks
from supertile.frontend.dimensions import Size
from supertile.frontend.families.common import Rope
from supertile.frontend.program import Program
from supertile.frontend.rules import Setting, values_of
from supertile.frontend.settle import ModelConfig, Target, spoken
from supertile.frontend.values import (
    BlockValue,
    FormatValue,
    NothingValue,
    Number,
    RopeValue,
    Row,
    TextValue,
    Value,
)
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.json_text import first_spot, show_json
from supertile.ir.types import ELEMENTS, SCALED_ELEMENTS, is_float


def check_config(program: Program, config: ModelConfig) -> None:
    """Whether the model covers what this config says of formats, and what nobody reads."""
    check_formats(config.config, Path(program.path).name, read_formats(program))
    refuse_architecture(program, config)


def unread(config: ModelConfig) -> list[Unread]:
    """Keys of the config that neither a dialect nor the model file read, the harmless aside."""
    return unread_keys(config.config.data, config.read, config.values)


def refuse_architecture(program: Program, config: ModelConfig) -> None:
    """Raise if a key that some released model has would change this one, and is not read."""
    keys = [key for key in unread(config) if key.meaning is not None]
    if not keys:
        return
    first, *others = keys
    raise UserError(
        "config.architecture",
        key_place(config, first.path),
        key=first.path,
        model=Path(program.path).name,
        meaning=first.meaning,
        found=show_json(first.value),
        others="".join(f", and `{key.path}` {show_json(key.value)}" for key in others),
    )


def check_drafts(config: ModelConfig, drafts: bool) -> None:
    """Raise if an entry that `drafts` is asked for, and the config's drafts are of another kind."""
    if drafts and config.block_drafts:
        key = next(key for key in config.config.data if key.startswith("dspark_"))
        where = key_place(config, key)
        raise UserError("config.drafts", where, key=key, stages=config.block_drafts)


@dataclass(frozen=True)
class Remark:
    """What of a config is not followed, or is doubtful, in a line for whoever compiles it."""

    where: Spot
    line: str


def remarks_on(program: Program, config: ModelConfig, numerics: str) -> list[Remark]:
    """The remarks on a config that the model covers, under these numerics."""
    found = [Remark(key_place(config, key), line) for key, line in remarks(config.config.data)]
    paths = [key.path for key in unread(config)]
    if paths:
        found.append(Remark(key_place(config, paths[0]), f"not read: {', '.join(paths)}"))
    formats = assumed_formats(config.config, read_formats(program))
    if formats and numerics == "deployed":
        model, kinds = Path(program.path).name, " and ".join(one.name for one in formats)
        line = f"no quantization_config: weights are taken as {model} states them, {kinds}"
        dialect = program.dialect.name if program.dialect else ""
        block = max(one.block[-1] for one in formats if one.block is not None)
        cut = cut_blocks(config.values, dialect, block)
        line += f", in blocks of {block} that {' and '.join(cut)} cut" if cut else ""
        found.append(Remark(key_place(config, ""), line))
    return found


def key_place(config: ModelConfig, path: str) -> Spot:
    """Where a key stands; the start of the file where nothing is of that name."""
    return first_spot(config.config.file, config.config.text, path)


def config_values(program: Program, config: ModelConfig) -> dict[str, Value]:
    """What the names of the config section are in the bodies of blocks."""
    formats = read_formats(program)
    binds = program.binds.values()
    values = (
        (bind.name, _bound(program, formats, bind, config.names[bind.name])) for bind in binds
    )
    return {name: value for name, value in values if value is not None}


def _bound(
    program: Program, formats: dict[str, FormatValue], bind: syntax.Bind, value: Setting
) -> Value | None:
    """None for what only the layer table and `require` read: flags and lists."""
    match bind.kind.name, value:
        case _, None:
            return NothingValue()
        case "block", str():
            return BlockValue(program.blocks[value])
        case "format", str():
            return formats[value]
        case _, Rope():
            return RopeValue(value)
        case _, str():
            return TextValue(value)
        case (("int" | "count"), int()):
            return Number(value, Size.of(bind.name))
        case "float", int() | float():
            return Number(float(value))
        case _:
            return None


# ---- formats -----------------------------------------------------------------------------------


def read_formats(program: Program) -> dict[str, FormatValue]:
    """The elements, then the model's formats; a format may build on those above it."""
    formats = {name: FormatValue(name, element) for name, element in ELEMENTS.items()}
    for item in program.formats.values():
        formats[item.name] = _format(item, formats)
    return formats


def known_format(name: syntax.Name, formats: dict[str, FormatValue]) -> FormatValue:
    held = formats.get(name.name)
    if held is None:
        hint = nearest(name.name, formats)
        raise UserError("language.unknown_format", name.where, name=name.name, hint=hint)
    return held


def _format(item: syntax.Format, formats: dict[str, FormatValue]) -> FormatValue:
    """`scaled(f8e4m3, f8e8m0, [128, 128], inputs = act8, result = bf16)` or another's name."""
    if isinstance(item.value, syntax.Name):
        return replace(known_format(item.value, formats), name=item.name)
    assert isinstance(item.value, syntax.Call)  # and its arguments: checked by check_program
    element, scale, block, *_ = (
        argument for argument in item.value.arguments if not isinstance(argument, syntax.Keyword)
    )
    assert isinstance(element, syntax.Name) and isinstance(scale, syntax.Name)
    assert isinstance(block, syntax.Sequence)
    held = known_format(element, formats)
    if held.element not in SCALED_ELEMENTS:
        raise UserError("language.format_element", element.where, found=element.name)
    sizes = tuple(int(size.value) for size in block.items if isinstance(size, syntax.Number))
    made = FormatValue(item.name, held.element, sizes, scale=ELEMENTS[scale.name])
    for keyword in item.value.arguments:
        if isinstance(keyword, syntax.Keyword):
            made = _with_keyword(made, keyword, formats)
    return made


def _with_keyword(
    made: FormatValue, keyword: syntax.Keyword, formats: dict[str, FormatValue]
) -> FormatValue:
    assert isinstance(keyword.value, syntax.Name)
    if keyword.name == "after":
        return replace(made, after=keyword.value.name)
    held = known_format(keyword.value, formats)
    if keyword.name == "inputs" and held.block is not None and held.block[:-1] in ((), (1,)):
        return replace(made, inputs=held)
    if keyword.name == "result" and is_float(held.element):
        return replace(made, result=held.element)
    raise UserError("language.format_keyword", keyword.value.where, name=keyword.name)


# ---- the layer table ---------------------------------------------------------------------------


def cell(
    program: Program, formats: dict[str, FormatValue], column: syntax.Column, row: Row
) -> Value:
    """What the row holds in a column."""
    value, kind = row[column.name], column.kind.name
    if kind == "rope" and isinstance(value, Rope):
        return RopeValue(value)
    if kind == "int" and isinstance(value, int):
        return Number(value, Size.of(value))
    if kind == "float" and isinstance(value, float | int):
        return Number(float(value))
    if isinstance(value, Target):
        return formats[value.name] if kind == "format" else BlockValue(program.blocks[value.name])
    if kind not in ("block", "format") or not isinstance(value, str):
        found = spoken(value)
        raise UserError("language.cell", column.where, name=column.name, wanted=kind, found=found)
    cases = {case.value: case.target for case in values_of(column)}
    target = cases.get(value)
    if not isinstance(target, syntax.Name):
        known = ", ".join(map(str, cases))
        raise UserError("language.case", column.where, name=column.name, found=value, known=known)
    if kind == "format":
        return known_format(target, formats)
    return BlockValue(program.blocks[target.name])
