"""Checks of the body of one block or entry: what is defined and used, and how often."""

from __future__ import annotations

from collections.abc import Iterator

from supertile.frontend import syntax
from supertile.frontend.builtins import BUILTINS, check_usage
from supertile.frontend.function_builder import RANK_LIMIT
from supertile.frontend.instance import SETTING_KINDS, needs_part
from supertile.frontend.program import Program, place
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.types import ELEMENTS, StateAttr

CONSTANTS = ("position", "infinity", "T", "B")
ROW_SETS = ("layers", "draft_layers")
RULE_KINDS = ("flag", "list")
"""Kinds of config names that only rules and requirements read: they are no values of a block."""


def check_kind(kind: syntax.Name, known: tuple[str, ...]) -> None:
    if kind.name not in known:
        raise UserError(
            "language.kind",
            kind.where,
            name=kind.name,
            known=", ".join(known),
            hint=nearest(kind.name, known),
        )


class BodyCheck:
    """One block or entry; `used` collects the names of the program that it uses."""

    def __init__(self, program: Program, block: syntax.Block, used: set[str]) -> None:
        self.program = program
        self.block = block
        self.used = used
        self.names: dict[str, Spot] = {}
        self.sizes: dict[str, Spot] = {}  # bound by parameters
        self.declared: dict[str, tuple[str, Spot]] = {}  # weights, states and parts
        self.uses: dict[str, int] = {}

    def run(self) -> None:
        block = self.block
        if not block.results:
            raise UserError("language.no_results", block.where, name=block.name)
        for parameter in block.parameters:
            self._parameter(parameter)
        *body, last = block.statements
        for statement in body:
            self._statement(statement)
        if not isinstance(last, syntax.Return):
            raise UserError("language.no_return", block.where, name=block.name)
        self._return(last)
        for name, (what, where) in self.declared.items():
            if not self.uses.get(name):
                raise UserError("language.unused", where, what=what, name=name)

    # -- parameters and results

    def _parameter(self, parameter: syntax.Parameter) -> None:
        self._define(parameter.name, parameter.where)
        kind = parameter.kind
        if self.block.entry and (kind is None or kind.sizes is None):
            raise UserError("language.entry_parameter", parameter.where, name=parameter.name)
        if kind is None:
            return
        if kind.sizes is not None:
            self._tensor_kind(kind, kind.sizes, binds=not self.block.entry)
        elif isinstance(kind.name, syntax.Name):
            check_kind(kind.name, SETTING_KINDS)
        else:
            raise UserError("language.format_kind", kind.where)

    def _result(self, parameter: syntax.Parameter, seen: dict[str, Spot]) -> None:
        if parameter.name in seen:
            self._taken(parameter.name, parameter.where, seen[parameter.name])
        seen[parameter.name] = parameter.where
        kind = parameter.kind
        if kind is not None and kind.sizes is None:
            raise UserError("language.format_kind", kind.where)
        if kind is not None and kind.sizes is not None:
            self._tensor_kind(kind, kind.sizes)

    def _tensor_kind(
        self, kind: syntax.Kind, sizes: tuple[syntax.Expression, ...], binds: bool = False
    ) -> None:
        """Sizes and format; a name that means nothing yet may be bound to the size it meets."""
        if len(sizes) > RANK_LIMIT:
            raise UserError("language.axes", kind.where, limit=RANK_LIMIT, found=len(sizes))
        for size in sizes:
            if binds and isinstance(size, syntax.Name) and not self._is_known(size.name):
                self.sizes[size.name] = size.where
            self._expression(size, set())
        if kind.name is not None:
            self._format(kind.name)

    # -- names

    def _is_known(self, name: str) -> bool:
        return name in self.names or name in self.sizes or self._is_global(name)

    def _is_global(self, name: str) -> bool:
        return name in self.program.defined or name in ELEMENTS or name in CONSTANTS

    def _define(self, name: str, where: Spot, part: bool = False) -> None:
        """A name has one meaning; only a part may bear the name of a block."""
        known = self.names.get(name) or self.sizes.get(name)
        if known is None and not (part and name in self.program.blocks):
            known = self.program.defined.get(name)
        if known is not None:
            self._taken(name, where, known)
        if name in BUILTINS or name in ELEMENTS or name in CONSTANTS:
            raise UserError("language.builtin_name", where, name=name)
        self.names[name] = where

    def _taken(self, name: str, where: Spot, known: Spot) -> None:
        raise UserError("language.defined_twice", where, name=name, earlier=place(known))

    def _declare(self, what: str, name: syntax.Name) -> None:
        self._define(name.name, name.where, part=what == "part")
        self.declared[name.name] = (what, name.where)

    def _count(self, name: str, where: Spot) -> None:
        self.used.add(name)
        self.uses[name] = self.uses.get(name, 0) + 1
        if self.uses[name] > 1 and self.declared.get(name, ("",))[0] == "state":
            raise UserError("language.state_twice", where, name=name)

    def _format(self, name: syntax.Name | syntax.Field) -> None:
        if isinstance(name, syntax.Field):
            return self._field(name)
        known = {*self.program.formats, *ELEMENTS, *self.names}
        if name.name not in known:
            hint = nearest(name.name, known)
            raise UserError("language.unknown_format", name.where, name=name.name, hint=hint)
        return self._count(name.name, name.where)

    # -- statements

    def _statement(self, statement: syntax.Statement) -> None:
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
                raise UserError("language.after_return", statement.where)

    def _weight(self, statement: syntax.Weight) -> None:
        self._stored_kind(statement.kind)
        if isinstance(statement.checkpoint, syntax.Name):
            self._expression(statement.checkpoint, set())
        self._declare("weight", statement.name)

    def _stored_kind(self, kind: syntax.Kind) -> None:
        """A weight or state states its format and its sizes."""
        if kind.sizes is None or kind.name is None:
            raise UserError("language.format_kind", kind.where)
        self._tensor_kind(kind, kind.sizes)

    def _state(self, statement: syntax.State) -> None:
        check_kind(statement.sort, tuple(StateAttr.KINDS))
        sizes = StateAttr.KINDS[statement.sort.name]
        if len(statement.sizes) != len(sizes):
            kind, wanted = statement.sort.name, ", ".join(sizes)
            raise UserError("language.state_kind", statement.sort.where, kind=kind, wanted=wanted)
        for size in statement.sizes:
            self._expression(size, set())
        self._stored_kind(statement.kind)
        self._declare("state", statement.name)

    def _part(self, statement: syntax.Part) -> None:
        self._expression(statement.block, set())
        rows = isinstance(statement.count, syntax.Name) and statement.count.name in ROW_SETS
        if statement.count is not None and not rows:
            self._expression(statement.count, set())
        for argument in statement.arguments:
            self._argument(argument, set())
        self._declare("part", statement.name)

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
        """An index name means nothing else, and stands once."""
        seen: set[str] = set()
        for index in indices:
            if index.name in seen:
                raise UserError("language.index_repeated", index.where)
            if self._is_known(index.name):
                raise UserError("language.index_name", index.where, name=index.name)
            seen.add(index.name)

    def _loop(self, statement: syntax.Loop) -> None:
        if not self.block.entry:
            raise UserError("language.loop_place", statement.where)
        check_kind(statement.over, ROW_SETS)
        self._indices((statement.variable,))
        for assign in statement.body:
            self._expression(assign.value, {statement.variable.name})
            for target in assign.targets:
                if target.name not in self.names or target.indices:
                    raise UserError("language.loop_target", target.where, name=target.name)

    def _return(self, statement: syntax.Return) -> None:
        wanted, found = len(self.block.results), len(statement.values)
        if found != wanted:
            raise UserError("language.result_count", statement.where, wanted=wanted, found=found)
        for value in statement.values:
            self._expression(value, set())
        seen: dict[str, Spot] = {}
        for result in self.block.results:
            self._result(result, seen)

    # -- expressions

    def _expression(self, expression: syntax.Expression, indices: set[str]) -> None:
        match expression:
            case syntax.Name():
                self._name(expression, indices)
            case syntax.Field():
                self._field(expression)
            case syntax.Call():
                self._call(expression, indices)
            case syntax.Sum():
                self._sum(expression, indices)
            case syntax.Flag():
                raise UserError("language.rule_only", expression.where, found="true and false")
            case _:
                for child in _children(expression):
                    self._expression(child, indices)

    def _name(self, expression: syntax.Name, indices: set[str]) -> None:
        name = expression.name
        if name in indices:
            return
        if self._is_known(name):
            bind = self.program.binds.get(name)
            if bind is not None and name not in self.names and bind.kind.name in RULE_KINDS:
                found = f"the {bind.kind.name} {name}"
                raise UserError("language.rule_only", expression.where, found=found)
            return self._count(name, expression.where)
        known = [*self.names, *self.program.defined, *BUILTINS, *indices]
        hint = nearest(name, known, "define it above, or give it as a parameter")
        raise UserError("language.unknown_name", expression.where, name=name, hint=hint)

    def _field(self, expression: syntax.Field) -> None:
        table = self.program.tables.get(expression.name)
        if table is None:
            name, hint = expression.name, nearest(expression.name, self.program.tables)
            raise UserError("language.unknown_name", expression.where, name=name, hint=hint)
        columns = [column.name for column in table.columns]
        if expression.field not in columns:
            name, hint = expression.field, nearest(expression.field, columns)
            raise UserError("language.unknown_column", expression.where, name=name, hint=hint)

    def _sum(self, expression: syntax.Sum, indices: set[str]) -> None:
        self._indices(expression.indices)
        inner = {index.name for index in expression.indices}
        if inner & indices:
            raise UserError("language.index_repeated", expression.where)
        self._expression(expression.body, indices | inner)

    def _call(self, expression: syntax.Call, indices: set[str]) -> None:
        callee = expression.callee
        if isinstance(callee, syntax.Name) and callee.name in BUILTINS:
            keywords = [a for a in expression.arguments if isinstance(a, syntax.Keyword)]
            count = len(expression.arguments) - len(keywords)
            check_usage(callee, BUILTINS[callee.name], count, keywords)
        elif isinstance(callee, syntax.Name):
            self._callee(callee)
        else:
            self._expression(callee, indices)
        for argument in expression.arguments:
            self._argument(argument, indices)

    def _argument(self, argument: syntax.Expression | syntax.Keyword, indices: set[str]) -> None:
        value = argument.value if isinstance(argument, syntax.Keyword) else argument
        self._expression(value, indices)

    def _callee(self, callee: syntax.Name) -> None:
        if callee.name not in self.names and callee.name not in self.program.defined:
            known = [*BUILTINS, *self.names, *self.program.blocks]
            hint = nearest(callee.name, known, "see the list of functions in docs/language.md")
            raise UserError("language.unknown_function", callee.where, name=callee.name, hint=hint)
        self._count(callee.name, callee.where)
        block = self.program.blocks.get(callee.name)
        if block is not None and callee.name not in self.names and needs_part(block):
            raise UserError("language.needs_part", callee.where, name=callee.name)


def _children(expression: syntax.Expression) -> Iterator[syntax.Expression]:
    match expression:
        case syntax.Operation():
            yield from expression.operands
        case syntax.Sequence():
            yield from expression.items
        case syntax.Item():
            yield expression.value
            yield from expression.indices
