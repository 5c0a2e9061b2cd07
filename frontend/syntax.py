"""The tree of a model file, and the parser that makes it.

Every node knows its `Spot`, so that checks and the builder can point at the source. Positions are
1-based. Nothing here knows what a name means.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.exceptions import VisitError
from lark.indenter import DedentError, Indenter
from lark.tree import Meta
from lark.visitors import v_args

from supertile.ir.errors import Spot, UserError

SIZE_LIMIT = 1_000_000  # characters of one model file
DEPTH_LIMIT = 40  # brackets inside brackets


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
    """`+ - * / ^`, or `neg` with one operand."""

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


Expression = Number | Text | Nothing | Name | Field | Operation | Call | Item | Sum | Sequence


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
class Bind(Node):
    """`D = hidden_size: int or 64`."""

    name: str
    key: str
    kind: Name
    default: int | float | str | bool | None


@dataclass(frozen=True)
class Require(Node):
    """`require scoring_func is "sigmoid"`, where the config states it."""

    key: str
    value: int | float | str | bool


@dataclass(frozen=True)
class Config(Node):
    lines: tuple[Bind | Require, ...]


@dataclass(frozen=True)
class Column(Node):
    name: str
    kind: Name
    cases: tuple[tuple[str, Name], ...]


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


# ---- from text ---------------------------------------------------------------------------------


class _Lines(Indenter):
    NL_type = "_NL"
    OPEN_PAREN_types = ["LPAR", "LSQB", "LBRACE"]  # noqa: RUF012 (Lark's interface)
    CLOSE_PAREN_types = ["RPAR", "RSQB", "RBRACE"]  # noqa: RUF012
    INDENT_type = "_INDENT"
    DEDENT_type = "_DEDENT"
    tab_len = 8


@v_args(meta=True)
class _Build(Transformer[Token, ModelFile]):
    """Lark tree to nodes. Method names are rule names."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__()
        self.path = path
        self.lines = text.split("\n")

    def at(self, place: Meta | Token) -> Spot:
        line = getattr(place, "line", 1) or 1
        return Spot(self.path, line, getattr(place, "column", 1) or 1, self.lines[line - 1])

    def naming(self, token: Token) -> Name:
        return Name(self.at(token), str(token))

    def start(self, meta: Meta, items: list[Any]) -> ModelFile:
        return ModelFile(self.path, tuple(items))

    def model(self, meta: Meta, items: list[Any]) -> Model:
        return Model(self.at(meta), str(items[0]), tuple(str(s)[1:-1] for s in items[1:]))

    def import_file(self, meta: Meta, items: list[Any]) -> Import:
        return Import(self.at(meta), Text(self.at(items[0]), str(items[0])[1:-1]))

    def config(self, meta: Meta, items: list[Any]) -> Config:
        return Config(self.at(meta), tuple(items))

    def bind(self, meta: Meta, items: list[Any]) -> Bind:
        name, key, kind, default = items
        value = default.value if default is not None else None
        return Bind(self.at(meta), str(name), str(key or name), self.naming(kind), value)

    def require(self, meta: Meta, items: list[Any]) -> Require:
        return Require(self.at(meta), str(items[0]), items[1].value)

    def table(self, meta: Meta, items: list[Any]) -> Table:
        return Table(self.at(meta), str(items[0]), tuple(items[1:]))

    def column(self, meta: Meta, items: list[Any]) -> Column:
        cases = tuple(item for item in items[2:] if item is not None)
        return Column(self.at(meta), str(items[0]), self.naming(items[1]), cases)

    def case(self, meta: Meta, items: list[Any]) -> tuple[str, Name]:
        return str(items[0]), self.naming(items[1])

    def format(self, meta: Meta, items: list[Any]) -> Format:
        return Format(self.at(meta), str(items[0]), items[1])

    def _block(self, meta: Meta, items: list[Any], entry: bool) -> Block:
        held = [item for item in items[1:] if item is not None]
        inputs = tuple(item for item in held if isinstance(item, tuple) and item[0] == "in")
        outputs = tuple(item for item in held if isinstance(item, tuple) and item[0] == "out")
        body = tuple(item for item in held if isinstance(item, Node))
        return Block(
            self.at(meta),
            str(items[0]),
            tuple(item[1] for item in inputs),
            tuple(item[1] for item in outputs),
            body,  # type: ignore[arg-type]
            entry,
        )

    def block(self, meta: Meta, items: list[Any]) -> Block:
        return self._block(meta, items, entry=False)

    def entry(self, meta: Meta, items: list[Any]) -> Block:
        return self._block(meta, items, entry=True)

    def parameter(self, meta: Meta, items: list[Any]) -> tuple[str, Parameter]:
        return "in", Parameter(self.at(meta), str(items[0]), items[1])

    def result(self, meta: Meta, items: list[Any]) -> tuple[str, Parameter]:
        return "out", Parameter(self.at(meta), str(items[0]), items[1])

    def kind_name(self, meta: Meta, items: list[Any]) -> Kind:
        return Kind(self.at(meta), items[0], None)

    def kind_tensor(self, meta: Meta, items: list[Any]) -> Kind:
        return Kind(self.at(meta), items[0], tuple(items[1:]))

    def reference(self, meta: Meta, items: list[Any]) -> Name | Field:
        if items[1] is None:
            return self.naming(items[0])
        return Field(self.at(meta), str(items[0]), str(items[1]))

    def weight(self, meta: Meta, items: list[Any]) -> Weight:
        return Weight(self.at(meta), self.naming(items[0]), items[1], items[2])

    def state(self, meta: Meta, items: list[Any]) -> State:
        name, sort = self.naming(items[0]), self.naming(items[1])
        return State(self.at(meta), name, sort, tuple(items[2:-1]), items[-1])

    def part(self, meta: Meta, items: list[Any]) -> Part:
        name, block, count, *arguments, prefix = items
        given = tuple(item for item in arguments if item is not None)
        text = Text(self.at(prefix), str(prefix)[1:-1])
        return Part(self.at(meta), self.naming(name), block, count, given, text)

    def assign(self, meta: Meta, items: list[Any]) -> Assign:
        return Assign(self.at(meta), tuple(items[:-1]), items[-1])

    def target(self, meta: Meta, items: list[Any]) -> Target:
        indices = tuple(self.naming(item) for item in items[1:] if item is not None)
        return Target(self.at(meta), str(items[0]), indices)

    def loop(self, meta: Meta, items: list[Any]) -> Loop:
        return Loop(
            self.at(meta), self.naming(items[0]), self.naming(items[1]), tuple(items[2:])
        )

    def return_values(self, meta: Meta, items: list[Any]) -> Return:
        return Return(self.at(meta), tuple(items))

    def add(self, meta: Meta, items: list[Any]) -> Operation:
        return Operation(self.at(meta), "+", tuple(items))

    def subtract(self, meta: Meta, items: list[Any]) -> Operation:
        return Operation(self.at(meta), "-", tuple(items))

    def multiply(self, meta: Meta, items: list[Any]) -> Operation:
        return Operation(self.at(meta), "*", tuple(items))

    def divide(self, meta: Meta, items: list[Any]) -> Operation:
        return Operation(self.at(meta), "/", tuple(items))

    def power(self, meta: Meta, items: list[Any]) -> Operation:
        return Operation(self.at(meta), "^", tuple(items))

    def negate(self, meta: Meta, items: list[Any]) -> Operation:
        return Operation(self.at(meta), "neg", tuple(items))

    def call(self, meta: Meta, items: list[Any]) -> Call:
        return Call(self.at(meta), items[0], tuple(i for i in items[1:] if i is not None))

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
        text = str(items[0])
        return Number(self.at(meta), int(text) if text.isdigit() else float(text))

    def negative(self, meta: Meta, items: list[Any]) -> Number:
        return Number(self.at(meta), -self.number(meta, items).value)

    def text(self, meta: Meta, items: list[Any]) -> Text:
        return Text(self.at(meta), str(items[0])[1:-1])

    def true(self, meta: Meta, items: list[Any]) -> Number:
        return Number(self.at(meta), True)

    def false(self, meta: Meta, items: list[Any]) -> Number:
        return Number(self.at(meta), False)

    def none(self, meta: Meta, items: list[Any]) -> Nothing:
        return Nothing(self.at(meta))

    def sum_over(self, meta: Meta, items: list[Any]) -> Sum:
        return Sum(self.at(meta), tuple(self.naming(token) for token in items[:-1]), items[-1])

    def tuple_of(self, meta: Meta, items: list[Any]) -> Sequence:
        return Sequence(self.at(meta), tuple(items))

    def list_of(self, meta: Meta, items: list[Any]) -> Sequence:
        return Sequence(self.at(meta), tuple(items))


@lru_cache(maxsize=1)
def _parser() -> Lark:
    grammar = files("supertile.frontend").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(
        grammar,
        parser="lalr",
        strict=True,
        propagate_positions=True,
        maybe_placeholders=True,
        postlex=_Lines(),
    )


def read_model_file(path: Path) -> ModelFile:
    """Parse a model file; errors are `UserError`s with file, line and column."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            "language.unreadable", file=str(path), reason=error.strerror or str(error)
        ) from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError("language.encoding", file=str(path), byte=error.start) from None
    return parse_model(text, str(path))


def parse_model(text: str, path: str) -> ModelFile:
    """Parse the text of a model file."""
    if len(text) > SIZE_LIMIT:
        raise UserError("language.too_long", file=path, size=len(text), limit=SIZE_LIMIT)
    text = text.replace("\r\n", "\n").rstrip() + "\n"
    if not text.strip():
        raise UserError("language.empty", file=path)
    _check_depth(text, path)
    try:
        tree = _parser().parse(text)
        return _Build(path, text).transform(tree)
    except UnexpectedInput as error:
        raise _syntax_error(error, text, path) from None
    except DedentError:
        raise _indentation_error(text, path) from None
    except (VisitError, RecursionError):
        raise UserError("language.too_deep", Spot(path, 1, 1), limit=DEPTH_LIMIT) from None


def _check_depth(text: str, path: str) -> None:
    """Refuse nesting that would exhaust the stack of whatever walks the tree."""
    for number, line in enumerate(text.split("\n"), start=1):
        depth = run = 0
        for column, character in enumerate(line.split("#")[0], start=1):
            depth += (character in "([") - (character in ")]")
            run = run + 1 if character in "-^ " else 0
            if depth > DEPTH_LIMIT or run > 4 * DEPTH_LIMIT:
                raise UserError(
                    "language.too_deep", Spot(path, number, column, line), limit=DEPTH_LIMIT
                )


# Terminal -> what a user calls it.
_SPOKEN = {
    "_NL": "the end of the line",
    "_INDENT": "an indented body",
    "_DEDENT": "the end of the body",
    "$END": "the end of the file",
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": 'a text in "quotes"',
}


def _spoken(terminal: str) -> str:
    if terminal in _SPOKEN:
        return _SPOKEN[terminal]
    definition = _parser().get_terminal(terminal)
    return f"`{definition.pattern.value}`"


def _syntax_error(error: UnexpectedInput, text: str, path: str) -> UserError:
    lines = text.split("\n")
    if isinstance(error, UnexpectedCharacters):
        spot = Spot(path, error.line, error.column, lines[error.line - 1])
        return UserError("language.character", spot, character=repr(error.char))
    assert isinstance(error, UnexpectedToken)
    token = error.token
    line = min(token.line or len(lines), len(lines))
    if token.type in ("_NL", "$END", "_DEDENT") and line > 1 and not lines[line - 1].strip():
        line -= 1
    column = token.column or 1
    if token.type in ("_NL", "$END", "_DEDENT"):
        column = len(lines[line - 1]) + 1
    wanted = sorted(_spoken(name) for name in (error.accepts or error.expected))
    found = _SPOKEN.get(token.type, f"`{token}`")
    return UserError(
        "language.syntax",
        Spot(path, line, column, lines[line - 1]),
        expected=" or ".join(wanted[:8]) + (" ..." if len(wanted) > 8 else ""),
        found=found,
        hint=_syntax_hint(token, wanted),
    )


def _syntax_hint(token: Token, wanted: list[str]) -> str:
    keyword = token.type.isupper() and str(token).isidentifier() and token.type != "NAME"
    if keyword and "a name" in wanted:
        return f"`{token}` is a reserved word; use another name"
    if token.type == "_INDENT":
        return "indent only the body of config, table, block, entry and for"
    if "an indented body" in wanted:
        return "indent the body by two spaces"
    if token.type == "EQUAL":
        return "compare nothing, assign once: name = expression"
    return "see docs/language.md"


def _indentation_error(text: str, path: str) -> UserError:
    """Find the line that returns to a column at which no body began."""
    columns = [0]
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        column = len(line.expandtabs(8)) - len(line.expandtabs(8).lstrip())
        if column > columns[-1]:
            columns.append(column)
        while column < columns[-1]:
            columns.pop()
        if column != columns[-1]:
            return UserError("language.indentation", Spot(path, number, column + 1, line))
    return UserError("language.indentation", Spot(path, 1, 1))
