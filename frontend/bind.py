"""What a config gives a program: values of its names, formats, cells of the layer table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from supertile.frontend import syntax
from supertile.frontend.config_formats import assumed_formats, check_formats
from supertile.frontend.config_keys import Unread, unread_keys
from supertile.frontend.config_numbers import remarks
from supertile.frontend.dimensions import Size
from supertile.frontend.hf_config import Config, Rope, value_spot
from supertile.frontend.program import Program
from supertile.frontend.values import (
    BlockValue,
    FormatValue,
    Number,
    RopeValue,
    Row,
    TextValue,
    Value,
)
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.json_text import show_json
from supertile.ir.types import ELEMENTS, SCALED_ELEMENTS, is_float

# Kind of a config name -> what the config may hold for it.
HELD: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "text": (str,)}
KINDS = {"int": "an integer", "float": "a number", "text": "a string"}


def check_config(program: Program, config: Config) -> None:
    """Whether the model covers this config: what it reads, and what nobody reads."""
    model = program.model
    assert model is not None  # checked by the loader
    if config.family not in model.families:
        raise UserError(
            "language.family",
            value_spot(config, "model_type"),
            model=model.name,
            wanted=" or ".join(model.families),
            found=config.family,
        )
    for require in program.requires:
        held = config.values.get(require.key, require.value)
        if (type(held), held) != (type(require.value), require.value):
            raise UserError(
                "language.require",
                value_spot(config, require.key) or require.where,
                model=model.name,
                key=require.key,
                wanted=spoken(require.value),
                found=spoken(held),
            )
    check_formats(config, Path(program.path).name, read_formats(program))
    refuse_architecture(program, config)


def unread(program: Program, config: Config) -> list[Unread]:
    """Keys of the config that neither its front end nor the model file read, the harmless aside."""
    binds = [bind.key for bind in program.binds.values()]
    read = {*config.read, *binds, *(require.key for require in program.requires)}
    return unread_keys(config.data, read, config.values)


def refuse_architecture(program: Program, config: Config) -> None:
    """Raise if a key that some released model has would change this one, and is not read."""
    keys = [key for key in unread(program, config) if key.meaning is not None]
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


def check_drafts(config: Config, drafts: bool) -> None:
    """Raise if an entry that `drafts` is asked for, and the config's drafts are of another kind."""
    if drafts and config.block_drafts:
        key = next(key for key in config.data if key.startswith("dspark_"))
        where = key_place(config, key)
        raise UserError("config.drafts", where, key=key, stages=config.block_drafts)


@dataclass(frozen=True)
class Remark:
    """What of a config is not followed, or is doubtful, in a line for whoever compiles it."""

    where: Spot
    line: str


def remarks_on(program: Program, config: Config, numerics: str) -> list[Remark]:
    """The remarks on a config that the model covers, under these numerics."""
    found = [Remark(key_place(config, key), line) for key, line in remarks(config.data)]
    paths = [key.path for key in unread(program, config)]
    if paths:
        found.append(Remark(key_place(config, paths[0]), f"not read: {', '.join(paths)}"))
    formats = assumed_formats(config, read_formats(program))
    if formats and numerics == "deployed":
        model, kinds = Path(program.path).name, " and ".join(formats)
        line = f"no quantization_config: weights are taken as {model} states them, {kinds}"
        found.append(Remark(key_place(config, ""), line))
    return found


def key_place(config: Config, path: str) -> Spot:
    """Where a key stands; the start of the file where nothing is of that name."""
    return value_spot(config, path) or Spot(config.file, 1, 1)


def needed_keys(program: Program, family: str) -> dict[str, str]:
    """Keys without which the model cannot be built of a config of its family, and their kinds."""
    assert program.model is not None  # checked by the loader
    if family not in program.model.families:
        return {}
    binds = [bind for bind in program.binds.values() if bind.default is None]
    return {bind.key: KINDS[bind.kind.name] for bind in binds if bind.kind.name in KINDS}


def config_values(program: Program, config: Config) -> dict[str, Value]:
    return {bind.name: _bound(bind, config) for bind in program.binds.values()}


def _bound(bind: syntax.Bind, config: Config) -> Value:
    if bind.kind.name == "rope":
        rope = config.ropes.get(bind.key)
        if rope is None:
            known = ", ".join(config.ropes)
            raise UserError("language.no_rope", bind.where, key=bind.key, known=known)
        return RopeValue(rope)
    value = config.values.get(bind.key, bind.default)
    if value is None:
        lack = "has null for" if bind.key in config.data else "has no"
        values = {"key": bind.key, "file": config.file, "lack": lack}
        raise UserError("language.config_missing", bind.where, **values)
    if isinstance(value, bool) or not isinstance(value, HELD[bind.kind.name]):
        spot = value_spot(config, bind.key) or bind.where
        wanted, found = bind.kind.name, spoken(value)
        raise UserError("language.config_kind", spot, key=bind.key, wanted=wanted, found=found)
    if isinstance(value, str):
        return TextValue(value)
    if isinstance(value, int) and bind.kind.name == "int":
        return Number(value, Size.of(bind.name))
    assert isinstance(value, int | float)
    return Number(float(value))


def spoken(value: object) -> str:
    """A value as a config or a model file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


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
    if column.name not in row:
        raise UserError("language.row_column", column.where, name=column.name)
    value, kind = row[column.name], column.kind.name
    if kind == "rope" and isinstance(value, Rope):
        return RopeValue(value)
    if kind == "int" and isinstance(value, int):
        return Number(value, Size.of(value))
    if kind == "float" and isinstance(value, float | int):
        return Number(float(value))
    if kind not in ("block", "format") or not isinstance(value, str):
        found = spoken(value)
        raise UserError("language.cell", column.where, name=column.name, wanted=kind, found=found)
    target = dict(column.cases).get(value)
    if target is None:
        known = ", ".join(case for case, _ in column.cases)
        raise UserError("language.case", column.where, name=column.name, found=value, known=known)
    if kind == "format":
        return known_format(target, formats)
    return BlockValue(program.blocks[target.name])
