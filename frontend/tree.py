"""From Lark's tree of a model file to ours: one method for each rule of the grammar."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lark import Token, Transformer
from lark.tree import Meta
from lark.visitors import v_args

from supertile.frontend.syntax import (
    Assign,
    Bind,
    Block,
    Call,
    Column,
    Condition,
    Config,
    Field,
    Flag,
    Format,
    Import,
    Item,
    Keyword,
    Kind,
    Loop,
    Model,
    ModelFile,
    Name,
    Node,
    Nothing,
    Number,
    Operation,
    Parameter,
    Part,
    Require,
    Return,
    RopeSetting,
    RuleCase,
    Sequence,
    State,
    Sum,
    Table,
    Target,
    Text,
    ValueCase,
    Weight,
)
from supertile.ir.errors import Spot, UserError

NUMBER_LIMIT = 2**63  # whole numbers are held in 64 bits
DIGITS_LIMIT = 40  # of a number


def _operation(symbol: str) -> Callable[[Any, Meta, list[Any]], Operation]:
    return lambda self, meta, items: Operation(self.at(meta), symbol, tuple(items))


def _texts(tokens: list[Any]) -> tuple[str, ...]:
    """Without their quotes."""
    return tuple(str(token)[1:-1] for token in tokens)


def _given(items: list[Any]) -> tuple[Any, ...]:
    """Without the places of absent options."""
    return tuple(item for item in items if item is not None)


@v_args(meta=True)
class TreeBuilder(Transformer[Token, ModelFile]):
    """Methods stand in the order of the rules."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__()
        self.path = path
        self.lines = text.split("\n")

    def at(self, place: Meta | Token) -> Spot:
        line = getattr(place, "line", 1) or 1
        return Spot(self.path, line, getattr(place, "column", 1) or 1, self.lines[line - 1])

    def naming(self, token: Token) -> Name:
        return Name(self.at(token), str(token))

    def quoted(self, token: Token) -> Text:
        return Text(self.at(token), str(token)[1:-1])

    # -- items

    def start(self, meta: Meta, items: list[Any]) -> ModelFile:
        return ModelFile(self.path, tuple(items))

    def model(self, meta: Meta, items: list[Any]) -> Model:
        return Model(self.at(meta), str(items[0]), _texts(items[1:]))

    def import_file(self, meta: Meta, items: list[Any]) -> Import:
        return Import(self.at(meta), self.quoted(items[0]))

    def config(self, meta: Meta, items: list[Any]) -> Config:
        dialect, *lines = items
        return Config(self.at(meta), self.naming(dialect) if dialect else None, tuple(lines))

    def bind(self, meta: Meta, items: list[Any]) -> Bind:
        name, key, (kind, rope, cases), default = items
        return Bind(self.at(meta), str(name), key or str(name), kind, rope, cases, default)

    def require(self, meta: Meta, items: list[Any]) -> Require:
        return Require(self.at(meta), items[0])

    def key(self, meta: Meta, items: list[Any]) -> str:
        return ".".join(map(str, items))

    def setting(self, meta: Meta, items: list[Any]) -> tuple[Name, RopeSetting | None, Any]:
        word, channels, pairs, *cases = items
        rope = RopeSetting(channels.where, channels, self.naming(pairs)) if channels else None
        return self.naming(word), rope, _given(cases)

    def value_case(self, meta: Meta, items: list[Any]) -> ValueCase:
        value, target = items
        named = self.quoted(target) if target.type == "STRING" else self.naming(target)
        return ValueCase(self.at(meta), self._literal(value), named)

    def _literal(self, token: Token) -> int | float | str | bool:
        if token.type == "NUMBER":
            return self._number(token)
        if token.type in ("TRUE", "FALSE"):
            return token.type == "TRUE"
        return self.quoted(token).value if token.type == "STRING" else str(token)

    def rule_case(self, meta: Meta, items: list[Any]) -> RuleCase:
        return RuleCase(self.at(meta), self.naming(items[0]), items[1])

    def condition(self, meta: Meta, items: list[Any]) -> Condition:
        left, sign, right = items
        return Condition(self.at(meta), str(sign), left, right)

    def table(self, meta: Meta, items: list[Any]) -> Table:
        return Table(self.at(meta), str(items[0]), tuple(items[1:]))

    def column(self, meta: Meta, items: list[Any]) -> Column:
        name, key, (kind, rope, cases), default = items
        if rope is not None:
            raise UserError("language.rope_place", rope.where)
        return Column(self.at(meta), str(name), key, kind, cases, default)

    def format(self, meta: Meta, items: list[Any]) -> Format:
        return Format(self.at(meta), str(items[0]), items[1])

    def block(self, meta: Meta, items: list[Any]) -> Block:
        name, *held = _given(items)
        inputs = tuple(item[1] for item in held if isinstance(item, tuple) and item[0] == "in")
        outputs = tuple(item[1] for item in held if isinstance(item, tuple) and item[0] == "out")
        body: Any = tuple(item for item in held if isinstance(item, Node))
        return Block(self.at(meta), str(name), inputs, outputs, body)

    def entry(self, meta: Meta, items: list[Any]) -> Block:
        return replace(self.block(meta, items), entry=True)

    def parameter(self, meta: Meta, items: list[Any]) -> tuple[str, Parameter]:
        return "in", Parameter(self.at(meta), str(items[0]), items[1])

    def result(self, meta: Meta, items: list[Any]) -> tuple[str, Parameter]:
        return "out", Parameter(self.at(meta), str(items[0]), items[1])

    def kind_name(self, meta: Meta, items: list[Any]) -> Kind:
        return Kind(self.at(meta), items[0], None)

    def kind_word(self, meta: Meta, items: list[Any]) -> Kind:
        return Kind(self.at(meta), self.naming(items[0]), None)

    def kind_tensor(self, meta: Meta, items: list[Any]) -> Kind:
        return Kind(self.at(meta), items[0], tuple(items[1:]))

    def reference(self, meta: Meta, items: list[Any]) -> Name | Field:
        if items[1] is None:
            return self.naming(items[0])
        return Field(self.at(meta), str(items[0]), str(items[1]))

    # -- statements

    def weight(self, meta: Meta, items: list[Any]) -> Weight:
        return Weight(self.at(meta), self.naming(items[0]), items[1], items[2])

    def state(self, meta: Meta, items: list[Any]) -> State:
        name, sort = self.naming(items[0]), self.naming(items[1])
        return State(self.at(meta), name, sort, tuple(items[2:-1]), items[-1])

    def part(self, meta: Meta, items: list[Any]) -> Part:
        name, block, count, *arguments, prefix = items
        settings = _given(arguments)
        return Part(self.at(meta), self.naming(name), block, count, settings, self.quoted(prefix))

    def assign(self, meta: Meta, items: list[Any]) -> Assign:
        return Assign(self.at(meta), tuple(items[:-1]), items[-1])

    def target(self, meta: Meta, items: list[Any]) -> Target:
        indices = tuple(self.naming(item) for item in _given(items[1:]))
        return Target(self.at(meta), str(items[0]), indices)

    def loop(self, meta: Meta, items: list[Any]) -> Loop:
        variable, _, over, *body = items
        return Loop(self.at(meta), self.naming(variable), self.naming(over), tuple(body))

    def return_values(self, meta: Meta, items: list[Any]) -> Return:
        return Return(self.at(meta), tuple(items))

    # -- expressions

    add = _operation("+")
    subtract = _operation("-")
    multiply = _operation("*")
    divide = _operation("/")
    remainder = _operation("%")
    power = _operation("^")
    negate = _operation("neg")

    def call(self, meta: Meta, items: list[Any]) -> Call:
        return Call(self.at(meta), items[0], _given(items[1:]))

    def item(self, meta: Meta, items: list[Any]) -> Item:
        return Item(self.at(meta), items[0], tuple(items[1:]))

    def argument(self, meta: Meta, items: list[Any]) -> Any:
        return items[0]

    def keyword(self, meta: Meta, items: list[Any]) -> Keyword:
        return Keyword(self.at(meta), str(items[0]), items[1])

    def name(self, meta: Meta, items: list[Any]) -> Name:
        return self.naming(items[0])

    def field(self, meta: Meta, items: list[Any]) -> Field:
        return Field(self.at(meta), str(items[0]), str(items[1]))

    def number(self, meta: Meta, items: list[Any]) -> Number:
        return Number(self.at(meta), self._number(items[0]))

    def _number(self, token: Token) -> int | float:
        text = str(token)
        if len(text) > DIGITS_LIMIT or not math.isfinite(float(text)):
            raise UserError("language.number", self.at(token))
        value = int(text) if text.isdigit() else float(text)
        if isinstance(value, int) and value >= NUMBER_LIMIT:
            raise UserError("language.number", self.at(token))
        return value

    def text(self, meta: Meta, items: list[Any]) -> Text:
        return self.quoted(items[0])

    def flag(self, meta: Meta, items: list[Any]) -> Flag:
        return Flag(self.at(meta), items[0].type == "TRUE")

    def none(self, meta: Meta, items: list[Any]) -> Nothing:
        return Nothing(self.at(meta))

    def sum_over(self, meta: Meta, items: list[Any]) -> Sum:
        return Sum(self.at(meta), tuple(self.naming(token) for token in items[:-1]), items[-1])

    def tuple_of(self, meta: Meta, items: list[Any]) -> Sequence:
        return Sequence(self.at(meta), tuple(items))

    def list_of(self, meta: Meta, items: list[Any]) -> Sequence:
        return Sequence(self.at(meta), tuple(items))
