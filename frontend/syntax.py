"""The tree of a model file; `parse.py` makes it.

Every node knows its `Spot`, so that checks and the builder can point at the source. Nothing here
knows what a name means.
"""

from __future__ import annotations

from dataclasses import dataclass

from supertile.ir.errors import Spot


@dataclass(frozen=True)
class Node:
    where: Spot


# ---- expressions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number(Node):
    value: int | float


@dataclass(frozen=True)
class Text(Node):
    value: str


@dataclass(frozen=True)
class Flag(Node):
    value: bool


@dataclass(frozen=True)
class Nothing(Node):
    """`none`: no value, where one is optional."""


@dataclass(frozen=True)
class Name(Node):
    name: str


@dataclass(frozen=True)
class Field(Node):
    """`layer.ratio`: the column `field` of the row of the table `name`."""

    name: str
    field: str


@dataclass(frozen=True)
class Operation(Node):
    """`+ - * / % ^`, or `neg` with one operand."""

    symbol: str
    operands: tuple[Expression, ...]


@dataclass(frozen=True)
class Keyword(Node):
    name: str
    value: Expression


@dataclass(frozen=True)
class Call(Node):
    callee: Expression
    arguments: tuple[Expression | Keyword, ...]


@dataclass(frozen=True)
class Item(Node):
    """`value[indices]`."""

    value: Expression
    indices: tuple[Expression, ...]


@dataclass(frozen=True)
class Sum(Node):
    """`sum(i, j: body)`."""

    indices: tuple[Name, ...]
    body: Expression


@dataclass(frozen=True)
class Sequence(Node):
    """`[a, b]` or `(a, b)`."""

    items: tuple[Expression, ...]


Expression = (
    Number | Text | Flag | Nothing | Name | Field | Operation | Call | Item | Sum | Sequence
)


# ---- statements --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind(Node):
    """`bf16[T, D]`, `[T, D]`, or a word such as `int`; `sizes` is None for a word."""

    name: Name | Field | None
    sizes: tuple[Expression, ...] | None


@dataclass(frozen=True)
class Weight(Node):
    name: Name
    kind: Kind
    checkpoint: Text | Name


@dataclass(frozen=True)
class State(Node):
    name: Name
    sort: Name
    sizes: tuple[Expression, ...]
    kind: Kind


@dataclass(frozen=True)
class Part(Node):
    name: Name
    block: Name | Field
    count: Expression | None
    arguments: tuple[Expression | Keyword, ...]
    prefix: Text


@dataclass(frozen=True)
class Target(Node):
    name: str
    indices: tuple[Name, ...]


@dataclass(frozen=True)
class Assign(Node):
    targets: tuple[Target, ...]
    value: Expression


@dataclass(frozen=True)
class Loop(Node):
    variable: Name
    over: Name
    body: tuple[Assign, ...]


@dataclass(frozen=True)
class Return(Node):
    values: tuple[Expression, ...]


Statement = Weight | State | Part | Assign | Loop | Return


# ---- items -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model(Node):
    name: str
    families: tuple[str, ...]


@dataclass(frozen=True)
class Import(Node):
    file: Text


@dataclass(frozen=True)
class Condition(Node):
    """`a < b`, `a <= b`, `a is b` or `a in b`."""

    sign: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class ValueCase(Node):
    """`fp8: stored8`: which value of the config stands for what."""

    value: int | float | str | bool
    target: Name | Text


@dataclass(frozen=True)
class RuleCase(Node):
    """`dense if l < K`; without a condition: in all other layers."""

    target: Name
    condition: Condition | None


@dataclass(frozen=True)
class RopeSetting(Node):
    """`rope[C, halves]`: the rotated channels, and which two of them are a pair."""

    channels: Expression
    pairs: Name


@dataclass(frozen=True)
class Bind(Node):
    """`D = hidden_size: int or 64`; dots of the key lead into objects."""

    name: str
    key: str
    kind: Name
    rope: RopeSetting | None
    cases: tuple[ValueCase | RuleCase, ...]
    default: Expression | None


@dataclass(frozen=True)
class Require(Node):
    """`require scoring_func is "sigmoid"`, where the config states it; or `require K <= E`."""

    condition: Condition


@dataclass(frozen=True)
class Config(Node):
    """The lines of a config section, and the dialect whose keys Python reads."""

    dialect: Name | None
    lines: tuple[Bind | Require, ...]


@dataclass(frozen=True)
class Column(Node):
    """`feed_forward: block { dense if l < K, moe }`: a cell in the row of each layer."""

    name: str
    key: str | None
    kind: Name
    cases: tuple[ValueCase | RuleCase, ...]
    default: Expression | None


@dataclass(frozen=True)
class Table(Node):
    name: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Format(Node):
    name: str
    value: Expression


@dataclass(frozen=True)
class Parameter(Node):
    name: str
    kind: Kind | None


@dataclass(frozen=True)
class Block(Node):
    """A block, or an entry when `entry` holds."""

    name: str
    parameters: tuple[Parameter, ...]
    results: tuple[Parameter, ...]
    statements: tuple[Statement, ...]
    entry: bool = False


TopLevel = Model | Import | Config | Table | Format | Block


@dataclass(frozen=True)
class ModelFile:
    path: str
    items: tuple[TopLevel, ...]
