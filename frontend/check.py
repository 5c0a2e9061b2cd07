"""What must hold of a program whatever the config: names, uses, counts, kinds of declarations.

Sizes and formats are checked per use, while the model is built (`evaluate.py`); everything here
also covers blocks that the config at hand does not use.
"""

from __future__ import annotations

from collections.abc import Iterator

from supertile.frontend import syntax
from supertile.frontend.builtins import BUILTINS, check_usage
from supertile.frontend.program import Program
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.types import ELEMENTS, StateAttr

BIND_KINDS = ("int", "float", "text", "rope")
COLUMN_KINDS = ("int", "float", "rope", "block", "format")
SETTING_KINDS = ("int", "float", "rope", "block", "format")
CONSTANTS = ("position", "infinity", "T", "B")
ROW_SETS = ("layers", "draft_layers")
SCALED_KEYWORDS = ("inputs", "result", "after")
TRANSFORMS = ("hadamard",)


def check_program(program: Program) -> None:
    """Raise the first error in the order of the text."""
    for name, where in program.defined.items():
        if name in BUILTINS or name in ELEMENTS or name in CONSTANTS:
            raise UserError("language.builtin_name", where, name=name)
    used: set[str] = set()
    for bind in program.binds.values():
        _check_kind(bind.kind, BIND_KINDS)
    for table in program.tables.values():
        _check_table(program, table, used)
    for item in program.formats.values():
        _check_format(program, item, used)
    for block in (*program.blocks.values(), *program.entries.values()):
        _BodyCheck(program, block, used).run()
    for name, bind in program.binds.items():
        if name not in used:
            raise UserError("language.unused", bind.where, what="config name", name=name)


def _check_kind(kind: syntax.Name, known: tuple[str, ...]) -> None:
    if kind.name not in known:
        raise UserError(
            "language.kind",
            kind.where,
            name=kind.name,
            known=", ".join(known),
            hint=nearest(kind.name, known),
        )


def _check_table(program: Program, table: syntax.Table, used: set[str]) -> None:
    seen: set[str] = set()
    for column in table.columns:
        _check_kind(column.kind, COLUMN_KINDS)
        if column.name in seen:
            line = table.where.line
            raise UserError("language.defined_twice", column.where, name=column.name, line=line)
        seen.add(column.name)
        chooses = column.kind.name in ("block", "format")
        if chooses != bool(column.cases):
            raise UserError("language.cases", column.where, name=column.name)
        known = program.blocks if column.kind.name == "block" else [*program.formats, *ELEMENTS]
        for _, target in column.cases:
            if target.name not in known:
                hint = nearest(target.name, known)
                raise UserError(
                    "language.unknown_name", target.where, name=target.name, hint=hint
                )


def _check_format(program: Program, item: syntax.Format, used: set[str]) -> None:
    value = item.value
    if isinstance(value, syntax.Name):
        return
    callee = value.callee if isinstance(value, syntax.Call) else None
    if not isinstance(value, syntax.Call) or getattr(callee, "name", "") != "scaled":
        raise UserError("language.format", value.where)
    positional = [a for a in value.arguments if not isinstance(a, syntax.Keyword)]
    if len(positional) != 3 or not all(isinstance(a, syntax.Name) for a in positional[:2]):
        raise UserError("language.format", value.where)
    block = positional[2]
    numbers = block.items if isinstance(block, syntax.Sequence) else ()
    sizes = [n.value for n in numbers if isinstance(n, syntax.Number)]
    if not sizes or len(sizes) != len(numbers) or any(not _is_size(size) for size in sizes):
        raise UserError("language.format_block", block.where)
    scale = positional[1]
    assert isinstance(scale, syntax.Name)
    if scale.name not in ("f8e8m0", "f32"):
        raise UserError("language.format_scale", scale.where, found=scale.name)
    for keyword in (a for a in value.arguments if isinstance(a, syntax.Keyword)):
        _check_format_keyword(keyword)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_format_keyword(keyword: syntax.Keyword) -> None:
    if keyword.name not in SCALED_KEYWORDS or not isinstance(keyword.value, syntax.Name):
        raise UserError(
            "language.keyword",
            keyword.where,
            name="scaled",
            keyword=keyword.name,
            wanted=", ".join(SCALED_KEYWORDS),
        )
    if keyword.name == "after" and keyword.value.name not in TRANSFORMS:
        raise UserError(
            "language.kind",
            keyword.value.where,
            name=keyword.value.name,
            known=", ".join(TRANSFORMS),
            hint="",
        )


class _BodyCheck:
    """One block or entry."""

    def __init__(self, program: Program, block: syntax.Block, used: set[str]) -> None:
        self.program = program
        self.block = block
        self.used = used
        self.names: dict[str, Spot] = {}
        self.sizes: set[str] = set(CONSTANTS)
        self.declared: dict[str, tuple[str, Spot]] = {}  # weights, states and parts
        self.uses: dict[str, int] = {}

    def run(self) -> None:
        for parameter in self.block.parameters:
            self._parameter(parameter)
        for number, statement in enumerate(self.block.statements):
            self._statement(statement, last=number == len(self.block.statements) - 1)
        if not isinstance(self.block.statements[-1], syntax.Return):
            raise UserError("language.no_return", self.block.where, name=self.block.name)
        for name, (what, where) in self.declared.items():
            if not self.uses.get(name):
                raise UserError("language.unused", where, what=what, name=name)

    # -- declarations

    def _parameter(self, parameter: syntax.Parameter) -> None:
        self._define(parameter.name, parameter.where)
        kind = parameter.kind
        if self.block.entry and (kind is None or kind.sizes is None):
            raise UserError("language.entry_parameter", parameter.where, name=parameter.name)
        if kind is None:
            return
        if kind.sizes is None:
            if not isinstance(kind.name, syntax.Name):
                raise UserError("language.format_kind", kind.where)
            return _check_kind(kind.name, SETTING_KINDS)
        for size in kind.sizes:
            if isinstance(size, syntax.Name):
                self.sizes.add(size.name)
                self._count(size.name)
            else:
                self._expression(size, set())
        return None

    def _define(self, name: str, where: Spot, part: bool = False) -> None:
        """A name has one meaning; only a part may bear the name of a block."""
        known = self.names.get(name) or self.program.defined.get(name)
        if part and name not in self.names and name in self.program.blocks:
            known = None
        if known is not None:
            raise UserError("language.defined_twice", where, name=name, line=known.line)
        if name in BUILTINS or name in ELEMENTS or name in CONSTANTS:
            raise UserError("language.builtin_name", where, name=name)
        self.names[name] = where

    def _statement(self, statement: syntax.Statement, last: bool) -> None:
        match statement:
            case syntax.Weight():
                self._weight(statement)
            case syntax.State():
                self._state(statement)
            case syntax.Part():
                self._part(statement)
            case syntax.Assign():
                self._assign(statement)
            case syntax.Loop():
                self._loop(statement)
            case syntax.Return():
                self._return(statement, last)

    def _weight(self, statement: syntax.Weight) -> None:
        self._tensor_kind(statement.kind)
        if isinstance(statement.checkpoint, syntax.Name):
            self._expression(statement.checkpoint, set())
        self._declare("weight", statement.name)

    def _tensor_kind(self, kind: syntax.Kind) -> None:
        """A weight or state states its format and its sizes."""
        if kind.sizes is None or kind.name is None:
            raise UserError("language.format_kind", kind.where)
        for size in kind.sizes:
            self._expression(size, set())
        self._format(kind.name)

    def _format(self, name: syntax.Name | syntax.Field) -> None:
        if isinstance(name, syntax.Field):
            return self._expression(name, set())
        known = {*self.program.formats, *ELEMENTS, *self.names}
        if name.name not in known:
            hint = nearest(name.name, known)
            raise UserError("language.unknown_format", name.where, name=name.name, hint=hint)
        return self._count(name.name)

    def _state(self, statement: syntax.State) -> None:
        sizes = StateAttr.KINDS.get(statement.sort.name)
        if sizes is None:
            _check_kind(statement.sort, tuple(StateAttr.KINDS))
            return
        if len(statement.sizes) != len(sizes):
            raise UserError(
                "language.state_kind",
                statement.where,
                kind=statement.sort.name,
                wanted=", ".join(sizes),
            )
        for size in statement.sizes:
            self._expression(size, set())
        self._tensor_kind(statement.kind)
        self._declare("state", statement.name)

    def _part(self, statement: syntax.Part) -> None:
        if isinstance(statement.block, syntax.Name):
            known = [*self.program.blocks, *self.names]
            if statement.block.name not in known:
                hint = nearest(statement.block.name, known)
                where = statement.block.where
                raise UserError(
                    "language.unknown_name", where, name=statement.block.name, hint=hint
                )
            self._count(statement.block.name)
        else:
            self._expression(statement.block, set())
        rows = isinstance(statement.count, syntax.Name) and statement.count.name in ROW_SETS
        if statement.count is not None and not rows:
            self._expression(statement.count, set())
        for argument in statement.arguments:
            self._expression(
                argument.value if isinstance(argument, syntax.Keyword) else argument, set()
            )
        self._declare("part", statement.name)

    def _declare(self, what: str, name: syntax.Name) -> None:
        self._define(name.name, name.where, part=what == "part")
        self.declared[name.name] = (what, name.where)

    # -- statements

    def _assign(self, statement: syntax.Assign) -> None:
        indexed = [target for target in statement.targets if target.indices]
        if indexed and len(statement.targets) > 1:
            raise UserError("language.equation_targets", statement.where)
        indices = {index.name for target in indexed for index in target.indices}
        for target in indexed:
            self._indices(target.indices)
        self._expression(statement.value, indices)
        for target in statement.targets:
            self._define(target.name, target.where)

    def _indices(self, indices: tuple[syntax.Name, ...]) -> None:
        """An index name is no value's name, and stands once."""
        seen: set[str] = set()
        for index in indices:
            if index.name in seen:
                raise UserError("language.index_repeated", index.where)
            if index.name in self.names or index.name in self.program.defined:
                raise UserError("language.index_name", index.where, name=index.name)
            seen.add(index.name)

    def _loop(self, statement: syntax.Loop) -> None:
        if statement.over.name not in ROW_SETS:
            raise UserError(
                "language.kind",
                statement.over.where,
                name=statement.over.name,
                known=", ".join(ROW_SETS),
                hint=nearest(statement.over.name, ROW_SETS),
            )
        for assign in statement.body:
            self._expression(assign.value, {statement.variable.name})
            for target in assign.targets:
                if target.name not in self.names or target.indices:
                    raise UserError("language.loop_target", target.where, name=target.name)

    def _return(self, statement: syntax.Return, last: bool) -> None:
        if not last:
            raise UserError("language.after_return", statement.where)
        if len(statement.values) != len(self.block.results) and self.block.results:
            raise UserError(
                "language.result_count",
                statement.where,
                wanted=len(self.block.results),
                found=len(statement.values),
            )
        if not self.block.results:
            raise UserError("language.no_results", self.block.where, name=self.block.name)
        for value in statement.values:
            self._expression(value, set())

    # -- expressions

    def _expression(self, expression: syntax.Expression, indices: set[str]) -> None:
        match expression:
            case syntax.Name():
                self._name(expression, indices)
            case syntax.Field():
                self._field(expression)
            case syntax.Call():
                self._call(expression, indices)
            case syntax.Item():
                self._expression(expression.value, indices)
                for index in expression.indices:
                    self._expression(index, indices)
            case syntax.Sum():
                self._indices(expression.indices)
                inner = {index.name for index in expression.indices}
                if inner & indices:
                    raise UserError("language.index_repeated", expression.where)
                self._expression(expression.body, indices | inner)
            case _:
                for child in _children(expression):
                    self._expression(child, indices)

    def _name(self, expression: syntax.Name, indices: set[str]) -> None:
        name = expression.name
        if name in indices or name in self.sizes:
            return
        if name in self.names or name in self.program.defined or name in ELEMENTS:
            return self._count(name)
        known = [*self.names, *self.program.defined, *BUILTINS, *indices]
        hint = nearest(name, known, "define it above, or give it as a parameter")
        raise UserError("language.unknown_name", expression.where, name=name, hint=hint)

    def _field(self, expression: syntax.Field) -> None:
        table = self.program.tables.get(expression.name)
        if table is None:
            hint = nearest(expression.name, self.program.tables)
            raise UserError(
                "language.unknown_name", expression.where, name=expression.name, hint=hint
            )
        columns = [column.name for column in table.columns]
        if expression.field not in columns:
            hint = nearest(expression.field, columns)
            raise UserError(
                "language.unknown_column", expression.where, name=expression.field, hint=hint
            )

    def _call(self, expression: syntax.Call, indices: set[str]) -> None:
        callee = expression.callee
        if isinstance(callee, syntax.Name) and callee.name in BUILTINS:
            keywords = [a for a in expression.arguments if isinstance(a, syntax.Keyword)]
            count = len(expression.arguments) - len(keywords)
            check_usage(callee, BUILTINS[callee.name], count, keywords)
        elif isinstance(callee, syntax.Name):
            self._callable(callee)
        else:
            self._expression(callee, indices)
        for argument in expression.arguments:
            value = argument.value if isinstance(argument, syntax.Keyword) else argument
            self._expression(value, indices)

    def _callable(self, callee: syntax.Name) -> None:
        self._name_or_function(callee)
        block = self.program.blocks.get(callee.name)
        if block is None or callee.name in self.names:
            return
        if any(isinstance(s, syntax.Weight | syntax.State | syntax.Part) for s in block.statements):
            raise UserError("language.needs_part", callee.where, name=callee.name)
        if any(p.kind is not None and p.kind.sizes is None for p in block.parameters):
            raise UserError("language.needs_part", callee.where, name=callee.name)

    def _name_or_function(self, callee: syntax.Name) -> None:
        if callee.name in self.names or callee.name in self.program.defined:
            return self._count(callee.name)
        known = [*BUILTINS, *self.names, *self.program.blocks]
        hint = nearest(callee.name, known, "see the list of functions in docs/language.md")
        raise UserError("language.unknown_function", callee.where, name=callee.name, hint=hint)

    def _count(self, name: str) -> None:
        self.used.add(name)
        self.uses[name] = self.uses.get(name, 0) + 1
        what, where = self.declared.get(name, ("", None))
        if what == "state" and self.uses[name] > 1 and where is not None:
            raise UserError("language.state_twice", where, name=name)


def _children(expression: syntax.Expression) -> Iterator[syntax.Expression]:
    if isinstance(expression, syntax.Operation):
        yield from expression.operands
    elif isinstance(expression, syntax.Sequence):
        yield from expression.items
