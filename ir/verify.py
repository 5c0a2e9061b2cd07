"""What every module holds, checked after every pass: a `VerifyError` is a bug of the pass.

1. Each op satisfies its own definition (operands, properties, shapes).
2. Each value is defined above its uses; groups see the values above them.
3. Each op belongs to the level.
4. Each version of the state is used at most once.
5. Each op has a place in a source file.
6. The functions that `graph.layers` names exist, and their types fit.
7. Tiles that have places in on-chip memory keep them as long as they are used.
8. Programs have no races and keep to their memory: see `sched_check.py`.
9. Ops whose placement is planned name the plan that the module holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import chain

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, SymbolRefAttr, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.printer import Printer
from xdsl.traits import IsTerminator

from supertile.ir import graph, sched, tile
from supertile.ir.expert_plan import PlannedAttr, layer_placements
from supertile.ir.levels import LEVELS
from supertile.ir.locations import file_line, location_text
from supertile.ir.microbatches import split_problem
from supertile.ir.op import fits, properties_of, python_value
from supertile.ir.sched_check import program_problems
from supertile.ir.tile_check import problems
from supertile.ir.types import DYNAMIC, index, tensor
from supertile.ir.walk import is_state, operations, ops_within

CONTEXT_LINES = 20
LINE_WIDTH = 160

Functions = dict[str, FuncOp]
Symbol = FuncOp | tile.Kernel | sched.Program


class VerifyError(Exception):
    """The IR is not what its level demands: which op, where it comes from, what is wrong.

    The text ends with at most `CONTEXT_LINES` lines of IR around the op.
    """

    def __init__(self, operation: Operation, message: str) -> None:
        self.operation = operation
        self.op = operation.name
        self.location = location_text(operation.location)
        self.message = message
        self.function = function_name(operation)
        super().__init__(self.render())

    def render(self) -> str:
        place = f"@{self.function}, " if self.function else ""
        lines = [f"{self.op} in {place}from {self.location}: {self.message}"]
        return "\n".join([*lines, *ir_around(self.operation)])


Memory = dict[object, tuple[object, ...]]
"""Ops whose definitions were found satisfied, and by itself all that this depends on."""


def verify_module(
    module: ModuleOp,
    level: str | None,
    changed: set[str] | None = None,
    memory: Memory | None = None,
) -> None:
    """Raise `VerifyError` unless the module is sound IR of the level.

    `changed` names the functions to look into, None all. Level None allows the ops of any level.
    With a `memory`, ops that are as they were when last looked at are not looked at again.
    """
    held = {} if memory is None else memory
    symbols = _symbols(module)
    functions = {name: op for name, op in symbols.items() if isinstance(op, FuncOp)}
    allowed = LEVELS[level] if level else frozenset[str]().union(*LEVELS.values())
    for name, symbol in symbols.items():
        if changed is None or name in changed:
            _verify_symbol(symbol, allowed, level or "any", held)
    # A changed signature breaks its callers, so all calls are looked at: they are few.
    for function in functions.values():
        for op in operations(function):
            if op.name == graph.Layers.name:
                assert isinstance(op, graph.Layers)
                _check_layers(op, functions)
            if op.name == tile.Launch.name:
                assert isinstance(op, tile.Launch)
                _check_launch(op, symbols)
    _check_plans(module)
    for symbol in symbols.values():
        if isinstance(symbol, sched.Program):
            for wrong, message in program_problems(symbol, symbols):
                raise VerifyError(wrong, message)


def _verify_symbol(symbol: Symbol, allowed: frozenset[str], level: str, memory: Memory) -> None:
    ops = ops_within(symbol)
    for op in ops:
        if op.name not in allowed:
            raise VerifyError(op, f"the level {level} does not hold this op")
        if op is symbol:  # whether it is isolated depends on all that is in it
            _check_definition(op)
            continue
        signature = _signature(op)
        if memory.get(op) != signature:
            # An op that says the same was sound: functions of several kinds of layers have many.
            if signature not in memory:
                _check_definition(op)
                memory[signature] = signature
            memory[op] = signature
    _check_order(symbol)
    _check_states(symbol, ops)
    _check_locations(ops)
    _check_tiles(symbol)


def _symbols(module: ModuleOp) -> dict[str, Symbol]:
    symbols: dict[str, Symbol] = {}
    for op in module.ops:
        if not isinstance(op, Symbol):
            raise VerifyError(op, "a module holds functions, kernels and programs only")
        if op.sym_name.data in symbols:
            raise VerifyError(op, f"there are two functions @{op.sym_name.data}")
        symbols[op.sym_name.data] = op
    return symbols


# ---- the checks of one function ----------------------------------------------------------------


def _signature(op: Operation) -> tuple[object, ...]:
    """All that the definition of an op in a function depends on: of regions what they take and
    hand on, and how many ends they have."""
    operands = op.operands
    parts: list[object] = [value.type for value in operands]
    parts += [value.type for value in op.results]
    for region in op.regions:
        parts += _ends(region)
    return (op.name, *parts, *op.properties.items(), len(operands))


def _ends(region: Region) -> Iterator[object]:
    """Each block with its arguments, its last op and what that hands on: a loop compares values."""
    for block in region.blocks:
        last = block.last_op
        values = (*block.args, *(last.operands if last else ()))
        yield from (block, last, *values, *(value.type for value in values))


def _check_definition(op: Operation) -> None:
    for region in op.regions:
        blocks = list(region.blocks)
        last = blocks[0].last_op if blocks else None
        if len(blocks) != 1 or last is None or not last.has_trait(IsTerminator):
            raise VerifyError(op, f"a region is one block with a terminator, got {len(blocks)}")
    try:
        op.verify(verify_nested_ops=False)
    except Exception as error:
        # xDSL raises several kinds here, with the whole module in the notes of each.
        message = str(error).removeprefix("Operation does not verify: ")
        raise VerifyError(op, message.replace(str(DYNAMIC), "?")) from None


def _check_order(function: Symbol) -> None:
    """Dominance. With one block a region it is the order of the text."""
    visible: set[SSAValue] = set()
    _check_block_order(function.body.block, visible)


def _check_block_order(block: Block, visible: set[SSAValue]) -> None:
    own: list[SSAValue] = [*block.args]
    visible.update(own)
    for op in block.ops:
        for number, value in enumerate(op.operands):
            if value not in visible:
                raise VerifyError(op, f"operand {number}, {_named(value)}, is not defined above")
        for region in op.regions:
            _check_block_order(region.block, visible)
        visible.update(op.results)
        own.extend(op.results)
    visible.difference_update(own)


def _check_states(function: Symbol, ops: Sequence[Operation]) -> None:
    for value in chain(function.body.block.args, *(op.results for op in ops)):
        if value.has_more_than_one_use() and is_state(value):
            uses = list(value.uses)
            message = f"{_named(value)} is a version of the state and is used {len(uses)} times"
            raise VerifyError(uses[-1].operation, message)


def _check_locations(ops: Sequence[Operation]) -> None:
    for op in ops:
        if file_line(op.location) is None:
            raise VerifyError(op, "the op has no source location")


def _check_tiles(function: Symbol) -> None:
    if isinstance(function, tile.Kernel):
        for op, message in problems(function):
            raise VerifyError(op, message)


def _named(value: SSAValue) -> str:
    return f"%{value.name_hint}" if value.name_hint else "an unnamed value"


# ---- plans of experts --------------------------------------------------------------------------


def _check_plans(module: ModuleOp) -> None:
    for op in module.walk():
        placement = op.properties.get("placement")
        if isinstance(placement, PlannedAttr):
            try:
                layer_placements(op, placement)
            except ValueError as error:
                raise VerifyError(op, str(error)) from None


# ---- launches of kernels -----------------------------------------------------------------------


def _check_launch(op: tile.Launch, symbols: dict[str, Symbol]) -> None:
    kernel = symbols.get(op.kernel.data)
    if not isinstance(kernel, tile.Kernel):
        raise VerifyError(op, f"there is no kernel @{op.kernel.data}")
    given = [value.type for value in (*op.operands, *op.results)]
    taken = [
        ref.type.tensor for ref in kernel.body.block.args if isinstance(ref.type, tile.RefType)
    ]
    if len(given) != len(taken):
        raise VerifyError(op, f"@{op.kernel.data} takes {len(taken)} references, not {len(given)}")
    for number, (ours, theirs) in enumerate(zip(given, taken, strict=True)):
        if not _type_fits(ours, theirs):
            raise VerifyError(
                op, f"reference {number} of @{op.kernel.data} is {theirs}, not {ours}"
            )


# ---- calls of layer functions ------------------------------------------------------------------


def _check_layers(op: graph.Layers, functions: Functions) -> None:
    properties = properties_of(op)
    kinds, uses = properties["kinds"], properties["uses"]
    if len(uses) != len(op.functions):
        raise VerifyError(op, f"{len(op.functions)} functions but {len(uses)} lists of uses")
    if any(not 0 <= kind < len(op.functions) for kind in kinds):
        raise VerifyError(op, f"kinds are 0 to {len(op.functions) - 1}, got {list(kinds)}")
    if any(not 0 <= stack < len(op.states) for used in uses for stack in used):
        raise VerifyError(op, f"uses name {len(op.states)} stacks, got {[list(u) for u in uses]}")
    for symbol, used in zip(op.functions, uses, strict=True):
        callee = _resolve(op, symbol, functions)
        _check_callee(op, callee, used)
        _check_split(op, callee)
    _check_stacks(op, kinds, uses)


def _resolve(op: graph.Layers, symbol: SymbolRefAttr, functions: Functions) -> FuncOp:
    name = str(python_value(symbol))
    if name not in functions:
        raise VerifyError(op, f"there is no function @{name}")
    return functions[name]


def _check_callee(op: graph.Layers, callee: FuncOp, used: tuple[int, ...]) -> None:
    carried = [value.type for value in op.carried]
    rows = [_row(op, op.states[stack].type) for stack in used]
    inputs = [*carried, *(value.type for value in op.shared), index, *rows]
    for what, given, taken in (
        ("arguments", inputs, callee.function_type.inputs.data),
        ("results", [*carried, *rows], callee.function_type.outputs.data),
    ):
        if len(given) != len(taken):
            name = callee.sym_name.data
            raise VerifyError(op, f"@{name} has {len(taken)} {what}, the layers {len(given)}")
        for number, (ours, theirs) in enumerate(zip(given, taken, strict=True)):
            if not _type_fits(ours, theirs):
                what_differs = f"{what} {number} of @{callee.sym_name.data}"
                raise VerifyError(op, f"{what_differs} differ: {theirs} there, {ours} here")


def _check_split(op: graph.Layers, callee: FuncOp) -> None:
    if op.microbatches is None:
        return
    types = callee.function_type.inputs.data
    attributes = callee.arg_attrs or ArrayAttr([DictionaryAttr({})] * len(types))
    problem = split_problem(op.microbatches.value.data, len(op.carried), types, [*attributes])
    if problem is not None:
        raise VerifyError(op, problem)


def _row(op: graph.Layers, stack: Attribute) -> Attribute:
    """The type of one layer's state within the stack of all layers."""
    assert isinstance(stack, TensorType)
    if not stack.get_num_dims():
        raise VerifyError(op, "a stack of states has a row for each layer, got a scalar")
    return tensor(stack.get_shape()[1:], stack.element_type, stack.encoding)


def _type_fits(first: Attribute, second: Attribute) -> bool:
    if not isinstance(first, TensorType) or not isinstance(second, TensorType):
        return first == second
    same = (first.element_type, first.encoding) == (second.element_type, second.encoding)
    return same and fits(first.get_shape(), second.get_shape())


def _check_stacks(
    op: graph.Layers, kinds: tuple[int, ...], uses: tuple[tuple[int, ...], ...]
) -> None:
    for number, stack in enumerate(op.states):
        layers = sum(uses[kind].count(number) for kind in kinds)
        assert isinstance(stack.type, TensorType)
        rows = stack.type.get_shape()[0]
        if rows not in (DYNAMIC, layers):
            raise VerifyError(op, f"stack {number} has {rows} rows, {layers} layers use it")


# ---- the IR around an op -----------------------------------------------------------------------


class _Tracking(Printer):
    """A printer that remembers on which line an op starts."""

    wanted: Operation
    line = 0

    def print_op(self, op: Operation) -> None:
        if op is self.wanted:
            assert isinstance(self.stream, StringIO)
            self.line = self.stream.getvalue().count("\n")
        super().print_op(op)


def function_name(op: Operation) -> str:
    """The name of the function that an op is in, "" outside of functions."""
    parent: Operation | None = op
    while parent is not None and not isinstance(parent, Symbol):
        parent = parent.parent_op()
    return "" if parent is None else parent.sym_name.data


def ir_around(op: Operation, limit: int = CONTEXT_LINES) -> list[str]:
    """At most `limit` lines of the op's function with the op amid them, marked `>`."""
    root = op
    while not isinstance(root, Symbol) and (parent := root.parent_op()) is not None:
        root = parent
    stream = StringIO()
    printer = _Tracking(stream=stream)
    printer.wanted = op
    try:
        printer.print_op(root)
    except Exception:  # the IR is known to be broken: its printers may fail in any way
        return [f"  (the IR around {op.name} cannot be printed)"]
    lines = stream.getvalue().split("\n")
    start = max(0, min(printer.line - limit // 2, len(lines) - limit))
    return [
        f"{'>' if number == printer.line else ' '} {_cut(line)}"
        for number, line in enumerate(lines[start : start + limit], start)
    ]


def _cut(line: str) -> str:
    return line if len(line) <= LINE_WIDTH else line[: LINE_WIDTH - 3] + "..."
