"""The places of a source file where a small fault can be put, and what stands there then.

    for mutant in mutants_of("targets/cost/link.py", text): ...

A mutant has a name that does not depend on line numbers, so that a draw, and what is said of a
mutant, outlive changes elsewhere in the file.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
CALLS = {
    "min": "max", "max": "min", "any": "all", "all": "any", "ceil": "floor", "floor": "ceil",
    "minimum": "maximum", "maximum": "minimum", "sum": "max",
}  # fmt: skip
FACTOR = 2  # by which a number that is no whole one is off


@dataclass(frozen=True)
class Mutant:
    """One fault: in a function of a file the text `before` became `after`."""

    file: str
    function: str
    before: str
    after: str
    number: int
    """Which one it is of those of the function that read the same."""
    line: int
    source: str = field(repr=False)
    """The whole file without the fault."""
    span: tuple[int, int]
    """Where in it the expression begins and ends."""

    @property
    def text(self) -> str:
        """The whole file with the fault in it."""
        start, end = self.span
        return f"{self.source[:start]}({self.after}){self.source[end:]}"

    @property
    def name(self) -> str:
        """Its name, the same as long as the function is."""
        count = f" #{self.number}" if self.number else ""
        return f"{self.function}: {self.before} -> {self.after}{count}"


def mutants_of(file: str, text: str) -> Iterator[Mutant]:
    """Every mutant of a file, in the order of the text."""
    lines = _Places(text)
    seen: Counter[tuple[str, str, str]] = Counter()
    for function, node in _expressions(ast.parse(text)):
        start, end = lines.span(node)
        before = " ".join(text[start:end].split())
        for after in _changes(node):
            key = function, before, after
            yield Mutant(file, function, before, after, seen[key], node.lineno, text, (start, end))
            seen[key] += 1


class _Places:
    """Positions in the text of what the parser tells as line and byte."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._position(node.lineno, node.col_offset),
            self._position(node.end_lineno, node.end_col_offset),
        )

    def _position(self, line: int, byte: int) -> int:
        characters = len(self.lines[line - 1].encode()[:byte].decode())
        return self.starts[line - 1] + characters


# ---- where ---------------------------------------------------------------------------------------


def _expressions(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Every expression that computes something, and the function or class that it is of."""
    yield from _below(module, "module")


def _below(node: ast.AST, function: str) -> Iterator[tuple[str, ast.expr]]:
    for child in _computing(node):
        name = function
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            name = child.name if function == "module" else f"{function}.{child.name}"
        if isinstance(child, ast.expr):
            yield name, child
        yield from _below(child, name)


def _computing(node: ast.AST) -> Iterator[ast.AST]:
    """The children of a node, without annotations, decorators, messages and checks of types."""
    match node:
        case ast.Raise() | ast.Assert() | ast.Import() | ast.ImportFrom() | ast.JoinedStr():
            return
        case ast.FunctionDef(args=arguments, body=body):
            yield from (value for value in [*arguments.defaults, *arguments.kw_defaults] if value)
            yield from _statements(body)
        case ast.ClassDef(body=body) | ast.Module(body=body):
            yield from _statements(body)
        case ast.AnnAssign(value=value):
            if value is not None:
                yield value
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.Call(func=ast.Name(id="UserError" | "VerifyException" | "Spot")):
            return
        case _:
            yield from ast.iter_child_nodes(node)


def _statements(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Without docstrings and other texts that stand alone."""
    for statement in body:
        alone = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not alone:
            yield statement


# ---- what ----------------------------------------------------------------------------------------


def _changes(node: ast.expr) -> Iterator[str]:
    """The texts that may take the place of an expression."""
    match node:
        case ast.BinOp(left, op, right):
            if type(op) in OPERATORS:
                yield ast.unparse(ast.BinOp(left, OPERATORS[type(op)](), right))
            if isinstance(op, ast.Add | ast.Sub | ast.Mult | ast.Div):
                yield ast.unparse(left)
        case ast.Compare(left, [op], [right]) if type(op) in COMPARISONS:
            yield ast.unparse(ast.Compare(left, [COMPARISONS[type(op)]()], [right]))
        case ast.Constant(value=bool(value)):
            yield repr(not value)
        case ast.Constant(value=int(value)):
            yield repr(value + 1)
            yield repr(value - 1)
        case ast.Constant(value=float(value)):
            yield repr(value * FACTOR if value else 1.0)
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield ast.unparse(operand)
        case ast.BoolOp(op, values):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield ast.unparse(ast.BoolOp(other, values))
        case ast.IfExp(test, body, otherwise):
            yield ast.unparse(ast.IfExp(test, otherwise, body))
        case ast.Call(func=ast.Name(id=name) as called, args=arguments, keywords=words):
            if name in CALLS:
                yield ast.unparse(ast.Call(ast.Name(CALLS[called.id]), arguments, words))
        case ast.Call(func=ast.Attribute(value, name), args=arguments, keywords=words):
            if name in CALLS and name != "sum":
                yield ast.unparse(ast.Call(ast.Attribute(value, CALLS[name]), arguments, words))
