"""The NumPy program of a module: the calls of each function in order, registers and last uses.

A plan is what `compile --target numpy` prints and what `execute.py` runs. Fused groups run as the
ops in them. A register is reused once its value was used for the last time, so that memory is what
is live, not what was ever computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr, TensorType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import OptOperandDef, VarOperandDef

from supertile.ir import comm, graph, sched, tile
from supertile.ir.expert_plan import LayerPlacements, layer_placements
from supertile.ir.group_layout import SHARD, SLICE, WHOLE, layouts
from supertile.ir.locations import name_of, place_of
from supertile.ir.op import properties_of, python_value
from supertile.ir.shard import ShardAttr
from supertile.ir.types import ELEMENT_NAMES, MxAttr, StateAttr, is_scaled, type_of

if TYPE_CHECKING:
    from supertile.runtime.tile_execute import KernelPlan

LAYERS = (graph.Layers, sched.Layers)
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
    layout: str = WHOLE
    """What the ranks of a group have of the results: see `ir/group_layout.py`."""

    @cached_property
    def weight(self) -> WeightUse | None:
        """What a step that is a weight reads."""
        if not isinstance(self.op, graph.Weight):
            return None
        kind, stored = type_of(self.op.result), self.op.stored
        name, shard = self.op.checkpoint.data, self.op.shard
        return WeightUse(name, kind, self.placements, stored=stored, shard=shard)

    @cached_property
    def placements(self) -> LayerPlacements | None:
        """Where the op places experts, layer by layer; None if it says nothing of that."""
        held = self.properties.get("placement")
        return None if held is None else layer_placements(self.op, held)

    @cached_property
    def call(self) -> Callable[[list[Any]], list[Any]]:
        """The results from the registers, for steps with a function."""
        assert self.function is not None, f"no NumPy function for {self.op.name}"
        function = partial(self.function, **self.properties) if self.properties else self.function
        read = reader(self.inputs)

        def call(registers: list[Any]) -> list[Any]:
            result = function(*read(registers))
            return list(result) if isinstance(result, tuple) else [result]

        return call


def reader(groups: tuple[Group, ...]) -> Callable[[list[Any]], Sequence[Any]]:
    """From the registers to the values of the groups, quick for the usual kinds of op."""
    single = [group for group in groups if isinstance(group, int)]
    if len(single) < len(groups) or not groups:
        return lambda registers: [_value(group, registers) for group in groups]
    if len(single) > 1:
        return itemgetter(*single)
    (only,) = single
    return lambda registers: (registers[only],)


def _value(group: Group, registers: list[Any]) -> Any:
    if isinstance(group, list):
        return [registers[register] for register in group]
    return None if group is None else registers[group]


@dataclass(frozen=True)
class WeightUse:
    """A weight that a function reads: its name in the checkpoint and its type."""

    pattern: str
    kind: TensorType[Attribute]
    placement: LayerPlacements | None = None
    """Where the experts live; None: each rank reads all of them."""
    rank: int | None = None
    """The rank that reads; None: all ranks together."""
    stored: TensorType[Attribute] | None = None
    """The type that the model declares, where `kind` is what that is converted to."""
    shard: ShardAttr | None = None
    """Which slice of each tensor a rank has; None: all of it. `kind` is the type of a slice."""

    @property
    def declared(self) -> TensorType[Attribute]:
        """The type of the checkpoint's numbers."""
        return self.kind if self.stored is None else self.stored

    @cached_property
    def is_layered(self) -> bool:
        return "{l}" in self.pattern

    @cached_property
    def is_stacked(self) -> bool:
        """Whether it is several tensors of the checkpoint, one for each expert."""
        return "{e}" in self.pattern

    @property
    def part(self) -> int:
        """The number of the slice that is read, of a weight with a shard."""
        return 0 if self.shard is None else self.shard.part(self.rank or 0)

    @cached_property
    def text(self) -> str:
        """The name with the types, which tell apart what is made of one tensor."""
        return f"{self.pattern} {self.declared} {self.kind} {self.shard or ''}"

    def key(self, layer: int | None) -> tuple[str, tuple[int, ...] | None, int]:
        """Tells uses apart; one tensor may be read in two shapes, and in parts."""
        return self.text, None if self.placement is None else self.experts(layer), self.part

    def experts(self, layer: int | None) -> tuple[int, ...] | None:
        """The experts that are read, by slot; None: one tensor that belongs to no expert."""
        if not self.is_stacked:
            return None
        if self.placement is None:
            return tuple(range(self.kind.get_shape()[0]))
        if self.rank is None:
            return tuple(range(self.placement.experts))
        return self.placement.at(layer).held(self.rank)

    def on(self, rank: int) -> WeightUse:
        """What one rank reads."""
        if self.placement is None and self.shard is None:
            return self
        return replace(self, rank=rank)


@dataclass(frozen=True)
class Argument:
    name: str
    kind: Attribute
    state: StateAttr | None
    axes: tuple[str, ...]
    """Names of the axes, if any: T tokens, B sequences, S:r entries of r tokens each."""
    shard: ShardAttr | None = None
    """Of a state: which slice a rank has; None: all of it."""


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
            if step.weight is not None:
                yield step.weight


class NamedStep(NamedTuple):
    """A step whose value onlookers see, and under which name."""

    name: str
    step: Step
    layer: int | None
    """The layer whose call runs it; None: the entry itself."""
    function: FunctionPlan


@dataclass(frozen=True)
class ModulePlan:
    functions: dict[str, FunctionPlan]
    entries: tuple[str, ...]
    numerics: str

    @cached_property
    def ranks(self) -> int | None:
        """How many ranks it runs on: those of the experts, or one group; None: on any number."""
        most = max(self._placed_on(), default=None)
        return self.group if most is None and self.group > 1 else most

    @property
    def is_placed(self) -> bool:
        """Whether experts are placed on ranks."""
        return any(self._placed_on())

    def _placed_on(self) -> Iterator[int]:
        """On how many ranks the experts of each dispatch are."""
        for step in self._steps():
            if isinstance(step.op, comm.Dispatch | sched.Transfer) and step.placements is not None:
                yield step.placements.ranks

    @cached_property
    def group(self) -> int:
        """How many ranks in a row work on the same sequences."""
        found = [1]
        for step in self._steps():
            if isinstance(step.op, (*comm.GROUP_OPS, sched.Transfer)) and step.op.ranks is not None:
                found.append(step.op.ranks.value.data)
            if isinstance(step.op, graph.Weight) and step.op.shard is not None:
                found.append(step.op.shard.ranks)
        return max(found)

    @property
    def groups(self) -> int | None:
        """How many groups have sequences of their own; None: any number."""
        return None if self.ranks is None else self.ranks // self.group

    def _steps(self) -> Iterator[Step]:
        return (step for function in self.functions.values() for step in function.steps)

    def prefix(self, entry: str) -> str:
        """What the names of an entry's own values begin with: nothing for the first entry."""
        return "" if entry in self.entries[:1] else f"{entry}."

    def value_names(self, entry: str) -> list[str]:
        """The name of every named value that a call of an entry computes, in order."""
        return [*dict.fromkeys(named.name for named in self.named_steps(entry))]

    def named_steps(self, entry: str) -> Iterator[NamedStep]:
        """Every step of a call of an entry that makes a named value, in order."""
        function, prefix = self.functions[entry], self.prefix(entry)
        for step in function.steps:
            if isinstance(step.op, LAYERS):
                yield from self._named_of_layers(step.properties)
            if is_watched(step):
                yield NamedStep(f"{prefix}{step.name}", step, None, function)

    def _named_of_layers(self, layers: dict[str, Any]) -> Iterator[NamedStep]:
        for number, kind in enumerate(layers["kinds"]):
            function = self.functions[layers["functions"][kind]]
            for step in filter(is_watched, function.steps):
                layer = number - (isinstance(step.op, sched.Action) and step.op.is_behind)
                name = f"{layers['label']}.{layer}.{step.name}"
                yield NamedStep(name, step, number, function)

    def weights_of(self, entry: str) -> Iterator[tuple[WeightUse, list[int]]]:
        """Every weight that an entry reads, with the numbers of the layers that read it."""
        plan = self.functions[entry]
        for use in plan.weights():
            yield use, []
        for step in plan.steps:
            if isinstance(step.op, LAYERS):
                yield from self._layer_weights(step.op)

    def _layer_weights(
        self, op: graph.Layers | sched.Layers
    ) -> Iterator[tuple[WeightUse, list[int]]]:
        kinds = op.kinds.get_values()
        for number, symbol in enumerate(op.functions):
            layers = [layer for layer, kind in enumerate(kinds) if kind == number]
            for use in self.functions[symbol.root_reference.data].weights():
                yield use, layers


def is_watched(step: Step) -> bool:
    """Whether onlookers see a value of the model file: all of it, not a slice on each rank."""
    return step.name is not None and step.layout != SLICE


def plan_module(module: ModuleOp, row_invariant: bool = False) -> ModulePlan:
    """The plan of every function and program of a module.

    `row_invariant`: in exact arithmetic, see `arithmetic.py`.
    """
    kernels = _kernels(module, row_invariant)
    functions = {}
    for op in module.ops:
        if isinstance(op, func.FuncOp):
            functions[op.sym_name.data] = _FunctionPlanner(op, kernels, row_invariant).plan()
        if isinstance(op, sched.Program):
            functions[op.sym_name.data] = _program_plan(op, kernels)
    entries = module.attributes.get("supertile.entries", ArrayAttr([]))
    assert isinstance(entries, ArrayAttr)
    numerics = module.attributes.get("supertile.numerics", StringAttr("reference"))
    assert isinstance(numerics, StringAttr)
    return ModulePlan(functions, tuple(entry.data for entry in entries), numerics.data)


def _program_plan(op: sched.Program, kernels: dict[str, KernelPlan]) -> FunctionPlan:
    from supertile.runtime.sched_plan import program_plan

    return program_plan(op, kernels)


def _kernels(module: ModuleOp, row_invariant: bool) -> dict[str, KernelPlan]:
    """What runs each kernel of the module."""
    kernels = [op for op in module.ops if isinstance(op, tile.Kernel)]
    if not kernels:
        return {}
    from supertile.runtime.arithmetic import EXACT, LIBRARY
    from supertile.runtime.tile_execute import KernelPlan

    arithmetic = EXACT if row_invariant else LIBRARY
    return {kernel.sym_name.data: KernelPlan(kernel, arithmetic) for kernel in kernels}


def _functions(row_invariant: bool) -> dict[type[Operation], Callable[..., Any]]:
    from supertile.runtime import graph_ops
    from supertile.runtime.arithmetic import EXACT, LIBRARY

    return graph_ops.functions(EXACT if row_invariant else LIBRARY)


class _FunctionPlanner:
    def __init__(
        self, function: func.FuncOp, kernels: dict[str, KernelPlan], row_invariant: bool
    ) -> None:
        self.function = function
        self.kernels = kernels
        self.functions = _functions(row_invariant)
        self.register: dict[SSAValue, int] = {}
        self.free: list[int] = []
        self.count = 0
        self.alias: dict[SSAValue, SSAValue] = {}  # result of a fused group -> value inside
        self.layouts = layouts(function)

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
        return argument_of(position, value.type, held)

    def _step(
        self, op: Operation, number: int, last: dict[SSAValue, int], kept: set[SSAValue]
    ) -> Step:
        inputs = operand_groups(op, lambda value: self.register[self._inside(value)])
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
        kernel = self.kernels[op.kernel.data] if isinstance(op, tile.Launch) else None
        return Step(
            op,
            self.functions.get(type(op)) if kernel is None else kernel.launch,
            inputs,
            call_properties(op) if kernel is None else {},
            tuple(self.register[value] for value in op.results),
            frees,
            rounding(op),
            name_of(op.location),
            source_line(op),
            self.layouts[op.results[0]] if op.results else WHOLE,
        )


def argument_of(position: int, kind: Attribute, held: Attribute | None) -> Argument:
    """An argument with its attributes."""
    fields = held.data if isinstance(held, DictionaryAttr) else {}
    name, state = fields.get("graph.name"), fields.get("graph.state")
    axes, shard = fields.get("graph.sizes", ArrayAttr([])), fields.get(SHARD)
    return Argument(
        name.data if isinstance(name, StringAttr) else f"argument{position}",
        kind,
        state if isinstance(state, StateAttr) else None,
        python_value(axes),
        shard if isinstance(shard, ShardAttr) else None,
    )


def operand_groups(op: Operation, register: Callable[[SSAValue], int]) -> tuple[Group, ...]:
    """Registers by operand definition, so that functions take them by position."""
    groups: list[Group] = []
    definition = type(op).get_irdl_definition()  # type: ignore[attr-defined]
    for name, held in definition.operands:
        value = getattr(op, name)
        if isinstance(held, OptOperandDef):
            groups.append(None if value is None else register(value))
        elif isinstance(held, VarOperandDef):
            groups.append([register(item) for item in value])
        else:
            groups.append(register(value))
    return tuple(groups)


def call_properties(op: Operation) -> dict[str, Any]:
    """Keyword arguments of the NumPy function; quantize and cast read theirs off the result.

    How a comm op runs is none of them.
    """
    properties = properties_of(op)
    if isinstance(op, comm.CommOp):
        properties = {key: held for key, held in properties.items() if key not in comm.HOW}
    if isinstance(op, graph.Quantize):
        kind = type_of(op.result)
        assert isinstance(kind.encoding, MxAttr)
        properties["element"] = ELEMENT_NAMES[kind.element_type]
        properties["group"] = kind.encoding.sizes[-1]
    return properties


def rounding(op: Operation) -> str | None:
    """The narrow float that the first result is rounded to; copies are already rounded."""
    if not op.results or not isinstance(op.results[0].type, TensorType):
        return None
    from supertile.ir.shapes import COMPUTED, RULES

    if isinstance(op, graph.Fused | graph.Yield) or not op.name.startswith(("graph.", "comm.")):
        return None
    kind = type_of(op.results[0])
    if RULES[type(op)][1][:1] != (COMPUTED,) or is_scaled(kind):
        return None
    name = ELEMENT_NAMES[kind.element_type]
    return name if name in ("bf16", "f16") else None


def source_line(op: Operation) -> str:
    """`file:line` of the model file, or "" if unknown."""
    return place_of(op.location)
