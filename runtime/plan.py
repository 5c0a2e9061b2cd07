"""The NumPy program of a module: for each function its calls in order, with registers and last uses.

A plan is what `compile --target numpy` prints and what `execute.py` runs. Fused groups run as the
ops in them. A register is reused once its value was used for the last time, so that memory is what
is live, not what was ever computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from xdsl.dialects import func
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    FileLineColLoc,
    ModuleOp,
    NameLoc,
    StringAttr,
    TensorType,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import OptOperandDef, VarOperandDef

from supertile.ir import graph
from supertile.ir.op import properties_of
from supertile.ir.types import ELEMENT_NAMES, MxAttr, StateAttr, is_scaled, type_of

Group = int | list[int] | None  # one register, a list of them, or an operand that is absent


@dataclass(frozen=True)
class Step:
    """One call: `outputs = function(inputs)`, then the registers in `frees` hold nothing."""

    op: Operation
    function: Callable[..., Any] | None
    inputs: tuple[Group, ...]
    properties: dict[str, Any]
    outputs: tuple[int, ...]
    frees: tuple[int, ...]
    rounds: str | None
    """The element that the first result is rounded to: bf16 or f16."""
    name: str | None
    """The name of the first result in the model file."""
    source: str
    """file:line of the model file."""


@dataclass(frozen=True)
class WeightUse:
    """A weight that a function reads: its name in the checkpoint and its type."""

    pattern: str
    kind: TensorType[Attribute]

    @property
    def is_layered(self) -> bool:
        return "{l}" in self.pattern


@dataclass(frozen=True)
class Argument:
    name: str
    kind: Attribute
    state: StateAttr | None


@dataclass(frozen=True)
class FunctionPlan:
    name: str
    arguments: tuple[Argument, ...]
    steps: tuple[Step, ...]
    results: tuple[int, ...]
    result_names: tuple[str, ...]
    registers: int

    @property
    def states(self) -> list[Argument]:
        return [argument for argument in self.arguments if argument.state is not None]

    def weights(self) -> Iterator[WeightUse]:
        for step in self.steps:
            if isinstance(step.op, graph.Weight):
                yield WeightUse(step.op.checkpoint.data, type_of(step.op.result))


@dataclass(frozen=True)
class ModulePlan:
    functions: dict[str, FunctionPlan]
    entries: tuple[str, ...]
    numerics: str

    def weights_of(self, entry: str) -> Iterator[tuple[WeightUse, list[int]]]:
        """Every weight that an entry reads, with the numbers of the layers that read it."""
        plan = self.functions[entry]
        for use in plan.weights():
            yield use, []
        for step in plan.steps:
            if isinstance(step.op, graph.Layers):
                yield from self._layer_weights(step.op)

    def _layer_weights(self, op: graph.Layers) -> Iterator[tuple[WeightUse, list[int]]]:
        kinds = op.kinds.get_values()
        for number, symbol in enumerate(op.functions):
            layers = [layer for layer, kind in enumerate(kinds) if kind == number]
            for use in self.functions[symbol.string_value()].weights():
                yield use, layers


def plan_module(module: ModuleOp) -> ModulePlan:
    """The plan of every function of a module."""
    functions = {
        op.sym_name.data: _FunctionPlanner(op).plan()
        for op in module.ops
        if isinstance(op, func.FuncOp)
    }
    entries = module.attributes.get("supertile.entries", ArrayAttr([]))
    assert isinstance(entries, ArrayAttr)
    numerics = module.attributes.get("supertile.numerics", StringAttr("reference"))
    assert isinstance(numerics, StringAttr)
    return ModulePlan(functions, tuple(entry.data for entry in entries), numerics.data)


class _FunctionPlanner:
    def __init__(self, function: func.FuncOp) -> None:
        self.function = function
        self.register: dict[SSAValue, int] = {}
        self.free: list[int] = []
        self.count = 0
        self.alias: dict[SSAValue, SSAValue] = {}  # result of a fused group -> value inside

    def plan(self) -> FunctionPlan:
        operations = list(self._flatten(self.function.body.block.ops))
        results = self.function.body.block.last_op
        assert isinstance(results, func.ReturnOp)
        last = self._last_uses(operations)
        kept = {self._inside(value) for value in results.operands}
        arguments = [self._argument(i) for i in range(len(self.function.body.block.args))]
        for value in self.function.body.block.args:
            self.register[value] = self._take()
        steps = []
        for number, op in enumerate(operations):
            steps.append(self._step(op, number, last, kept))
        names = self.function.attributes.get("graph.results", ArrayAttr([]))
        assert isinstance(names, ArrayAttr)
        return FunctionPlan(
            self.function.sym_name.data,
            tuple(arguments),
            tuple(steps),
            tuple(self.register[self._inside(value)] for value in results.operands),
            tuple(name.data for name in names),
            self.count,
        )

    def _flatten(self, ops: Any) -> Iterator[Operation]:
        """Ops in execution order; a fused group gives the ops in it."""
        for op in ops:
            if isinstance(op, graph.Fused):
                block = op.body.block
                yield from self._flatten(block.ops)
                assert block.last_op is not None
                self.alias.update(zip(op.results, block.last_op.operands, strict=True))
            elif not isinstance(op, graph.Yield | func.ReturnOp):
                yield op

    def _inside(self, value: SSAValue) -> SSAValue:
        while value in self.alias:
            value = self.alias[value]
        return value

    def _last_uses(self, operations: list[Operation]) -> dict[SSAValue, int]:
        last: dict[SSAValue, int] = {}
        for number, op in enumerate(operations):
            for value in op.operands:
                last[self._inside(value)] = number
            for value in op.results:
                last.setdefault(value, number)
        return last

    def _take(self) -> int:
        if self.free:
            return self.free.pop()
        self.count += 1
        return self.count - 1

    def _argument(self, position: int) -> Argument:
        value = self.function.body.block.args[position]
        held = self.function.arg_attrs.data[position] if self.function.arg_attrs else None
        fields = held.data if isinstance(held, DictionaryAttr) else {}
        name, state = fields.get("graph.name"), fields.get("graph.state")
        return Argument(
            name.data if isinstance(name, StringAttr) else f"argument{position}",
            value.type,
            state if isinstance(state, StateAttr) else None,
        )

    def _step(
        self, op: Operation, number: int, last: dict[SSAValue, int], kept: set[SSAValue]
    ) -> Step:
        from supertile.runtime.graph_ops import FUNCTIONS

        inputs = self._groups(op)
        dying = dict.fromkeys(
            value
            for value in (self._inside(operand) for operand in op.operands)
            if last[value] == number and value not in kept
        )
        for value in op.results:
            self.register[value] = self._take()
        dead = [v for v in op.results if last[v] == number and v not in kept]
        frees = tuple(self.register[value] for value in (*dying, *dead))
        self.free.extend(reversed(frees))
        return Step(
            op,
            FUNCTIONS.get(type(op)),
            inputs,
            _call_properties(op),
            tuple(self.register[value] for value in op.results),
            frees,
            _rounding(op),
            value_name(op),
            source_line(op),
        )

    def _groups(self, op: Operation) -> tuple[Group, ...]:
        """Registers by operand definition, so that functions take them by position."""
        groups: list[Group] = []
        definition = type(op).get_irdl_definition()  # type: ignore[attr-defined]
        for name, held in definition.operands:
            value = getattr(op, name)
            if isinstance(held, OptOperandDef):
                groups.append(None if value is None else self.register[self._inside(value)])
            elif isinstance(held, VarOperandDef):
                groups.append([self.register[self._inside(item)] for item in value])
            else:
                groups.append(self.register[self._inside(value)])
        return tuple(groups)


def _call_properties(op: Operation) -> dict[str, Any]:
    """Keyword arguments of the NumPy function; quantize and cast read theirs off the result."""
    properties = properties_of(op)
    if isinstance(op, graph.Quantize):
        kind = type_of(op.result)
        assert isinstance(kind.encoding, MxAttr)
        properties["element"] = ELEMENT_NAMES[kind.element_type]
        properties["group"] = kind.encoding.sizes[-1]
    return properties


def _rounding(op: Operation) -> str | None:
    """The narrow float that the first result is rounded to; copies are already rounded."""
    if not op.results or not isinstance(op.results[0].type, TensorType):
        return None
    from supertile.ir.shapes import COMPUTED, RULES

    elements = RULES[type(op)][1] if type(op) in RULES else ()
    kind = type_of(op.results[0])
    if elements[:1] != (COMPUTED,) or is_scaled(kind):
        return None
    name = ELEMENT_NAMES[kind.element_type]
    return name if name in ("bf16", "f16") else None


def value_name(op: Operation) -> str | None:
    """The name that the model file gives to the first result of an op."""
    return op.location.desc.data if isinstance(op.location, NameLoc) else None


def source_line(op: Operation) -> str:
    """`file:line` of the model file, or "" if unknown."""
    place: Attribute = op.location
    while isinstance(place, NameLoc):
        place = place.location
    if not isinstance(place, FileLineColLoc):
        return ""
    return f"{place.filename.data}:{place.line.data}"
