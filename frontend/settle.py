"""A config as a model file reads it: the names of its config section, the rows of its layer table.

    E = num_local_experts: int                       a key under a name
    C = head_dim: int or D / H                       with a default
    feed_forward: block { dense if l < KD, moe }     a cell of each layer, by a rule

A dialect (`config deepseek_v4`) is read by a function of `families`; what that gives stands for the
keys and columns of the same names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from supertile.frontend import syntax
from supertile.frontend.config_numbers import check_numbers
from supertile.frontend.families import DIALECTS
from supertile.frontend.families.common import LAYER_LIMIT, Parts, Rope, Row
from supertile.frontend.families.ropes import read_rope
from supertile.frontend.families.small import power, small_parts, small_stack
from supertile.frontend.hf_config import Config, Keys, value_spot
from supertile.frontend.program import Program
from supertile.frontend.rules import (
    LAYER,
    Names,
    Setting,
    compute,
    conditions_of,
    holds,
    names_of,
    names_of_condition,
    rules_of,
    values_of,
)
from supertile.frontend.shipped import shipped_model
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.json_text import show_json

COLUMN_HINTS = {
    "": "give a rule, { first if l < K, second }, another key, or a default",
    "rope": "name one of the config section, { turn }, with turn = rope_theta: rope[C, halves]",
}
LAYER_COUNT = "num_hidden_layers"
BRING = 'write a model file for "{family}": docs/language.md, A family of your own'


class Target(NamedTuple):
    """A cell that names a block or a format of the model file."""

    name: str


@dataclass(frozen=True)
class ModelConfig:
    """A config, read."""

    config: Config
    values: Mapping[str, object]
    """Every scalar key of the file, and what a dialect makes of it: int, float, bool or str."""
    names: Names
    """What the names of the config section stand for."""
    ropes: Mapping[str, Rope]
    """The ropes of a dialect"""
    layers: tuple[Row, ...]
    """One row a main layer, a cell a column of the layer table."""
    draft_layers: tuple[Row, ...]
    """One row a multi-token-prediction layer."""
    read: frozenset[str]
    """Keys of the file that all of this follows from; dots lead into objects."""
    block_drafts: int
    """Stages that draft a block of tokens together (DSpark); they are not read."""

    @property
    def family(self) -> str:
        return self.config.family


def settle(program: Program, config: Config) -> ModelConfig:
    """Read a config as the model file says; errors point at the key, or at the line that reads it.

    With `config.small` all sizes are tiny, and the layers one of each kind.
    """
    check_family(program, config)
    keys = Keys(config.data, config.file, config.text)
    keys.word("model_type")
    parts = Parts({}, {}, ())
    try:
        if program.dialect is not None:
            parts = DIALECTS[program.dialect.name](keys)
        whole = Reader(program, config, keys, parts).read()
        check_numbers(keys, program.dialect.name if program.dialect else "")
    except UserError:
        if keys.missing:  # what stands in for a missing key may be at odds with another
            raise keys.incomplete() from None
        raise
    if keys.missing:
        raise keys.incomplete()
    return _shrunk(program, whole, parts) if config.small else whole


def _shrunk(program: Program, whole: ModelConfig, parts: Parts) -> ModelConfig:
    """The same with tiny sizes, which follow from small numbers in place of the file's."""
    config, is_split = whole.config, whole.config.small == "split"
    if program.dialect is not None:
        values = {**config.values, **parts.values}
        parts = small_parts(program.dialect.name, values, parts, is_split)
        data = {**config.data, **parts.values}
    else:
        data = small_data(program, config, is_split)
    keys = Keys(data, config.file, config.text)
    small = Reader(program, config, keys, parts).read()
    layers = small_stack(small.layers)
    values = {**small.values, LAYER_COUNT: len(layers)}
    return replace(small, values=values, layers=layers, read=whole.read)


def check_family(program: Program, config: Config) -> None:
    """Whether the model line names the config's model_type."""
    model = program.model
    assert model is not None  # checked by the loader
    if config.family not in model.families:
        shipped = shipped_model(config.family)
        hint = f"{shipped.name} reads it" if shipped else BRING.format(family=config.family)
        raise UserError(
            "language.family",
            value_spot(config, "model_type"),
            model=model.name,
            wanted=" or ".join(model.families),
            found=config.family,
            hint=nearest(config.family, model.families, hint),
        )


class Reader:
    """Reads `keys` line by line; `parts` is what a dialect gives."""

    def __init__(self, program: Program, config: Config, keys: Keys, parts: Parts) -> None:
        self.program = program
        self.config = config
        self.parts = parts
        self.keys = keys
        scalars = {key: v for key, v in keys.data.items() if isinstance(v, str | int | float)}
        self.values: dict[str, object] = {**scalars, **parts.values}
        self.names: dict[str, Setting] = {}
        self.read_keys = frozenset(bind.key for bind in program.binds.values())

    def read(self) -> ModelConfig:
        for require in self.program.requires:
            self._require_key(require)
        for bind in self.program.binds.values():
            try:
                self.names[bind.name] = self._bound(bind)
            except UserError:
                if not self.keys.missing:  # else it may follow from what stands in for a key
                    raise
                self.names[bind.name] = STAND_INS.get(bind.kind.name)
        for require in self.program.requires:
            self._require(require)
        layers, drafts = self._rows()
        named = {bind.key: self.names[bind.name] for bind in self.program.binds.values()}
        plain = {key: v for key, v in named.items() if isinstance(v, int | float)}
        return ModelConfig(
            self.config,
            {**self.values, **plain, LAYER_COUNT: len(layers)},
            self.names,
            self.parts.ropes,
            layers,
            drafts,
            frozenset(self.keys.read),
            self.parts.block_drafts,
        )

    # -- names

    def _bound(self, bind: syntax.Bind) -> Setting:
        kind, key = bind.kind.name, bind.key
        if kind == "rope":
            return self._rope(bind)
        if key in self.parts.values:
            self.keys.read.add(key)
            return self._given(bind, self.parts.values[key])
        if self.keys.get(key) is None and bind.default is not None:
            return self._default(bind, bind.default)
        if bind.cases:
            return self._case(bind, key, self._scalar(key))
        match kind:
            case "int":
                return self.keys.integer(key)
            case "count":
                return self.keys.integer(key, low=0)
            case "float":
                return self.keys.number(key)
            case "flag":
                return self.keys.flag(key)
            case "list":
                return self.keys.whole_numbers(key)
            case _:
                return self.keys.word(key)

    def _given(self, bind: syntax.Bind, value: object) -> Setting:
        """What a dialect says: it need only be of the kind."""
        if not _fits(bind.kind.name, value):
            spot = value_spot(self.config, bind.key) or bind.where
            wanted, found = bind.kind.name, spoken(value)
            raise UserError("language.config_kind", spot, key=bind.key, wanted=wanted, found=found)
        assert isinstance(value, str | int | float)
        return value

    def _default(self, bind: syntax.Bind, default: syntax.Expression) -> Setting:
        value = compute(default, self.names)
        if value is None:
            return None
        if bind.cases:
            return self._case(bind, bind.key, value)
        if not _fits(bind.kind.name, value):
            found = f"{spoken(value)}{self._where_from(default)}"
            wanted = KINDS[bind.kind.name]
            raise UserError(
                "language.default", default.where, key=bind.key, wanted=wanted, found=found
            )
        return float(value) if bind.kind.name == "float" and isinstance(value, int) else value

    def _case(self, bind: syntax.Bind | syntax.Column, key: str, value: object) -> Setting:
        """The target of the case that the value chooses."""
        cases = values_of(bind)  # no others: check_program
        if key in self.keys.missing:
            value = cases[0].value
        for case in cases:
            if case.value == value and isinstance(case.value, bool) == isinstance(value, bool):
                target = case.target
                return target.value if isinstance(target, syntax.Text) else target.name
        known = [spoken(case.value) for case in cases]
        hint, found = nearest(spoken(value), known), spoken(value)
        raise self.keys.fail("config.choice", key, known=" or ".join(known), found=found, hint=hint)

    def _scalar(self, key: str) -> object:
        value = self.keys.get(key)
        return self.keys.word(key) if value is None else value

    def _rope(self, bind: syntax.Bind) -> Rope:
        if bind.rope is None:
            rope = self.parts.ropes.get(bind.key)
            if rope is None:
                known = ", ".join(self.parts.ropes)
                raise UserError("language.no_rope", bind.where, key=bind.key, known=known)
            return rope
        channels = compute(bind.rope.channels, self.names)
        if isinstance(channels, float) and channels.is_integer():
            channels = int(channels)
        if not isinstance(channels, int) or channels < 2 or channels % 2:
            where = self._place_of(names_of(bind.rope.channels), bind.rope.channels.where)
            found = f"{spoken(channels)}{self._where_from(bind.rope.channels)}"
            raise UserError("language.rope_channels", where, found=found)
        theta = None if bind.default is None else self._default(bind, bind.default)
        base = float(theta) if isinstance(theta, int | float) else None
        pairs = bind.rope.pairs.name
        return read_rope(self.keys, bind.key, channels, pairs, base, self.read_keys)

    def _place_of(self, names: Iterable[syntax.Name], otherwise: Spot) -> Spot:
        """Where the file has the first of the keys under these names; else a place in the model."""
        spots = (value_spot(self.config, self.program.binds[name.name].key) for name in names)
        return next(filter(None, spots), otherwise)

    def _where_from(self, expression: syntax.Expression) -> str:
        """`, where D is 68 and H is 8`, of the names that an expression reads."""
        names = dict.fromkeys(name.name for name in names_of(expression))
        values = " and ".join(f"{name} is {spoken(self.names.get(name))}" for name in names)
        return f", where {values}" if values else ""

    # -- requirements

    def _require_key(self, require: syntax.Require) -> None:
        """`require hidden_act is "silu"`: where the config states the key."""
        condition = require.condition
        key = required_key(self.program, require)
        if key is None:
            return
        wanted = compute(condition.right, {})
        stated = self.values.get(key, self.keys.get(key))
        if stated is None:
            return
        if (type(stated), stated) != (type(wanted), wanted):
            raise self._uncovered(
                value_spot(self.config, key) or require.where,
                f"{key}: {spoken(wanted)}",
                spoken(stated) if _is_scalar(stated) else show_json(stated),
            )

    def _require(self, require: syntax.Require) -> None:
        """`require K <= E`, of names."""
        if required_key(self.program, require) is not None or holds(require.condition, self.names):
            return
        names = names_of_condition(require.condition)
        keys = {name.name: self.program.binds[name.name].key for name in names}
        found = ", ".join(f"{key} {spoken(self.names[name])}" for name, key in keys.items())
        wanted = require.condition.where.text.partition("#")[0].strip().removeprefix("require ")
        wanted += f", of {' and '.join(keys.values())}"
        raise self._uncovered(self._place_of(names, require.where), wanted, found)

    def _uncovered(self, spot: Spot, wanted: str, found: str) -> UserError:
        assert self.program.model is not None  # checked by the loader
        model = self.program.model.name
        return UserError("language.require", spot, model=model, wanted=wanted, found=found)

    # -- rows

    def _rows(self) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
        bases: tuple[Row, ...] = (*self.parts.layers, *self.parts.draft_layers)
        count = len(self.parts.layers)
        if self.program.dialect is None:
            bind = self.program.layers
            count = self.keys.integer(bind.key if bind else LAYER_COUNT, high=LAYER_LIMIT)
            bases = ({},) * count
        columns = [column for table in self.program.tables.values() for column in table.columns]
        for column in columns:
            self._check_numbers_of_layers(column, count)
        rows = tuple(
            {
                **base,
                **{c.name: self._cell(c, layer, count) for c in columns if not _given_by(base, c)},
            }
            for layer, base in enumerate(bases)
        )
        return rows[:count], rows[count:]

    def _check_numbers_of_layers(self, column: syntax.Column, count: int) -> None:
        """`l in NAME`: what the config lists are numbers of layers that there are."""
        for condition in conditions_of(column):
            if condition.sign != "in":
                continue
            left, right = names_of(condition.left), names_of(condition.right)
            if [name.name for name in left] != [LAYER] or not right:
                continue
            key = self.program.binds[right[0].name].key
            listed = self.names[right[0].name]
            for index, number in enumerate(listed if isinstance(listed, tuple) else ()):
                self.keys.bounded(f"{key}[{index}]", number, 0, count - 1)

    def _cell(self, column: syntax.Column, layer: int, count: int) -> object:
        names = {**self.names, LAYER: layer}
        if rules_of(column):
            return self._cell_value(column, self._by_rule(column, names))
        key = column.key or column.name
        value: object = self.keys.get(key)
        if isinstance(value, list):
            value, key = self.keys.entries(key, count)[layer % count], f"{key}[{layer}]"
        if value is None and column.default is not None:
            value = compute(column.default, names)
        if value is None:
            if self.keys.get(key.partition("[")[0]) is None:
                kind = "rope" if column.kind.name == "rope" else ""
                values = {"name": column.name, "key": key, "hint": COLUMN_HINTS[kind]}
                raise UserError("language.row_column", column.where, **values)
            raise self.keys.fail("config.type", key, expected="a value", found="null")
        if column.cases:
            return self._cell_value(column, self._case(column, key, value))
        if not _fits(column.kind.name, value):
            wanted, found = KINDS[column.kind.name], show_json(value)
            raise self.keys.fail("config.type", key, expected=wanted, found=found)
        return value

    def _by_rule(self, column: syntax.Column, names: Names) -> str:
        """The first case whose condition holds; the last has none."""
        chosen = (c for c in rules_of(column) if c.condition is None or holds(c.condition, names))
        return next(chosen).target.name

    def _cell_value(self, column: syntax.Column, target: Setting) -> object:
        name = str(target)
        return self.names[name] if column.kind.name == "rope" else Target(name)


def _given_by(base: Row, column: syntax.Column) -> bool:
    """Whether a dialect gives the column: rules, keys and defaults of the file come first."""
    is_read = column.key is not None or column.default is not None or bool(rules_of(column))
    return column.name in base and not is_read


def required_key(program: Program, require: syntax.Require) -> str | None:
    """The config's key that `require KEY is VALUE` is about; None of a condition on names."""
    condition = require.condition
    literal = syntax.Number | syntax.Text | syntax.Flag | syntax.Nothing
    if condition.sign != "is" or not isinstance(condition.right, literal):
        return None
    if isinstance(condition.left, syntax.Field):
        return f"{condition.left.name}.{condition.left.field}"
    if isinstance(condition.left, syntax.Name) and condition.left.name not in program.binds:
        return condition.left.name
    return None


# ---- kinds -------------------------------------------------------------------------------------

STAND_INS: dict[str, Setting] = {"int": 1, "count": 0, "float": 1.0, "flag": True, "text": ""}
"""While keys are missing: what takes the place of names that cannot be read."""
KINDS = {
    "int": "a whole number of 1 and more",
    "count": "a whole number of 0 and more",
    "float": "a number",
    "flag": "true or false",
    "text": "a text",
    "list": "none",
    "rope": "a number",
}


def _fits(kind: str, value: object) -> bool:
    if isinstance(value, bool):
        return kind == "flag"
    match kind:
        case "int":
            return isinstance(value, int) and value >= 1
        case "count":
            return isinstance(value, int) and value >= 0
        case "float" | "rope":
            return isinstance(value, int | float)
        case "text":
            return isinstance(value, str)
        case _:
            return False


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def spoken(value: object) -> str:
    """A value as a config or a model file writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


# ---- small models ------------------------------------------------------------------------------


def small_data(program: Program, config: Config, is_split: bool) -> dict[str, object]:
    """The file's object with every size small that the blocks use."""
    sizes = {name.name for block in _blocks(program) for name in _names(block)}
    keys, data = Keys(config.data, config.file, config.text), _copied(config.data)
    for bind in program.binds.values():
        value = keys.get(bind.key)
        if bind.name in sizes and bind.kind.name == "int" and isinstance(value, int):
            *outer, last = bind.key.split(".")
            place: Any = data
            for step in outer:
                place = place[step]
            place[last] = power(value, is_split)
    return data


def _copied(data: Mapping[str, object]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in data.items()}


def _blocks(program: Program) -> list[syntax.Block]:
    return [*program.blocks.values(), *program.entries.values()]


def _names(node: object) -> list[syntax.Name]:
    """Every name in a part of the tree."""
    if isinstance(node, syntax.Name):
        return [node]
    if isinstance(node, tuple):
        return [name for child in node for name in _names(child)]
    return _names(tuple(vars(node).values())) if isinstance(node, syntax.Node) else []
