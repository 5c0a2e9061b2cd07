"""Layers in two micro-batches: windows in which the second half of the sequences lags behind.

    head      of a layer: all up to its dispatch, and what waits for neither dispatch nor combine
    middle    what waits for dispatch
    tail      combine, and what waits for it

    window    head of the first half; tail of the second half in the layer before; head of the
              second half; middle of both; tail of the first half

so that the second half is a combine behind: it runs under the next layer's attention of the first.
A window stands for a layer and the one before it; the first one has nothing to end, and behind the
last layer a window ends what is left. Layers without dispatch are all head.

The halves share arguments and results, of which each has its sequences; every other piece of
memory belongs to one of them. What the tail of the second half reads is left to the next window in
memory of the caller, in two sets that take turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, StringAttr, SymbolRefAttr, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, BlockArgument, OpResult, SSAValue

from supertile.ir import comm, graph
from supertile.ir.arguments import axes_of
from supertile.ir.errors import UserError
from supertile.ir.formula import Formula, symbol
from supertile.ir.microbatches import SEQUENCES, TOKENS
from supertile.ir.op import attribute_of, python_value
from supertile.ir.types import type_of
from supertile.passes.schedule_edges import Part, Root, Step, ancestors, whole_of
from supertile.passes.schedule_program import Frame, Piece
from supertile.passes.schedule_steps import Back, Copied, Reading, Scope, Spare, Work


@dataclass(frozen=True)
class Shared:
    """Result `number` of a window, of which each half has its rows."""

    number: int


@dataclass(frozen=True)
class Given:
    """What the second half left in the window before: piece `number`."""

    number: int


@dataclass(frozen=True)
class Leaving:
    """What the second half leaves to the next window: piece `number`."""

    number: int


@dataclass(frozen=True)
class Handed:
    """Result `number` of the layer before, for the second half."""

    number: int


@dataclass(frozen=True)
class OfHalf:
    """Memory that one half has for itself."""

    root: Root
    half: int


# ---- layers ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A layer with its actions; it carries the first `carried` arguments and results."""

    function: FuncOp
    reading: Reading
    carried: int
    passed: dict[Root, int]
    """Bytes of each result that it passes on."""

    @property
    def name(self) -> str:
        return self.function.sym_name.data

    @cached_property
    def parts(self) -> tuple[list[Work], list[Work], list[Work]]:
        """Head, middle and tail."""
        before = ancestors(self.reading.edges)
        sent, back = (
            sum(1 << n for n, work in enumerate(self.reading.works) if isinstance(work.op, kind))
            for kind in (comm.Dispatch, comm.Combine)
        )
        head: list[Work] = []
        middle: list[Work] = []
        tail: list[Work] = []
        for number, work in enumerate(self.reading.works):
            if isinstance(work.op, comm.Combine) or before[number] & back:
                tail.append(work)
            elif before[number] & sent and not isinstance(work.op, comm.Dispatch):
                middle.append(work)
            else:
                head.append(work)
        return head, middle, tail

    @cached_property
    def prepared(self) -> set[Root]:
        """Memory whose contents follow from weights alone, the weights too: both halves use it."""
        found: set[Root] = set()
        for root in self.reading.root.values():
            if isinstance(root, OpResult) and isinstance(root.op, graph.Weight):
                found.add(root)
        for work in self.reading.works:
            if work.step.reads and found.issuperset(work.step.reads):
                found.update(work.step.writes)
        return found

    @property
    def is_open(self) -> bool:
        """Whether it has a tail."""
        return bool(self.parts[2])

    @cached_property
    def left(self) -> list[SSAValue]:
        """What the tail reads of what comes before it, in order."""
        head, middle, tail = self.parts
        made = {whole_of(root) for work in (*head, *middle) for root in work.step.writes}
        found = dict.fromkeys(whole_of(root) for work in tail for root in work.step.reads)
        return [root for root in found if root in made and isinstance(root, OpResult)]

    def check(self) -> None:
        """UserError where its second half cannot lag behind."""
        *_, tail = self.parts
        arguments = self.function.body.block.args
        results = {self.reading.results[n]: arguments[n] for n in range(self.carried)}
        for work in self.reading.works:
            reads, writes = ({*map(whole_of, held)} for held in (work.step.reads, work.step.writes))
            if any(root in writes and argument in reads for root, argument in results.items()):
                self._refuse("a kernel writes what the layer passes on over what it was given")
        if not tail:
            return
        ended = {whole_of(root) for work in tail for root in work.step.writes}
        if not results.keys() <= ended:
            self._refuse("a value that layers carry does not come from behind combine")
        for work in tail:
            for root in map(whole_of, work.step.touched):
                if isinstance(root, BlockArgument) and not self._is_shared(root):
                    self._refuse(f"what is behind combine uses {root.name_hint or 'an argument'}")
                if root in self.prepared:
                    self._refuse("what is behind combine has a weight of its layer")

    def _is_shared(self, argument: BlockArgument) -> bool:
        """Whether all layers have it alike."""
        held = self.function.arg_attrs
        state = held is not None and "graph.state" in held.data[argument.index].data
        is_tensor = isinstance(argument.type, TensorType)
        return argument.index >= self.carried and is_tensor and not state

    def _refuse(self, reason: str) -> None:
        raise UserError("pass.microbatches", name=self.name, reason=reason)

    def sizes_of(self, value: SSAValue) -> list[str]:
        """A name for each size of a value that is left to the next window."""
        shape = self.reading.shapes[value]
        for size in shape:
            if isinstance(size, Formula) and size != symbol(str(size)):
                self._refuse(f"a value that is left has the size {size}, which has no name")
        return [str(size) for size in shape]


# ---- windows -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """The program of a layer in two halves: `layer` None ends what is left of the one before."""

    layer: Layer | None
    before: Layer | None

    @property
    def name(self) -> str:
        if self.layer is None:
            assert self.before is not None
            return f"{self.before.name}_rest"
        if self.before is None:
            return f"{self.layer.name}_first"
        return f"{self.layer.name}_after_{self.before.name.removeprefix('layers_')}"

    @property
    def given(self) -> Sequence[SSAValue]:
        return self.before.left if self.before is not None else ()

    @property
    def leaving(self) -> Sequence[SSAValue]:
        return self.layer.left if self.layer is not None else ()

    @property
    def function(self) -> FuncOp:
        """The one whose arguments the program has."""
        held = self.layer or self.before
        assert held is not None
        return held.function

    def reading(self) -> Reading:
        """The actions of both halves, in order."""
        found = Reading()
        for scope, layer, works in self._units():
            found.root |= layer.reading.root
            for work in works:
                step = work.step
                if scope.half == 1 and layer.prepared.issuperset(step.writes):
                    continue  # what the first half has made of weights serves both
                reads, writes = (
                    [_renamed(root, scope) for root in roots] for roots in (step.reads, step.writes)
                )
                own = Step(reads, writes, step.lane)
                found.works.append(replace(work, step=own, scope=scope))
            for root, size in {**layer.reading.sizes, **layer.passed}.items():
                named = scope.renamed(root)
                if isinstance(named, OfHalf | Handed) or named in layer.prepared:
                    found.sizes[named] = size
        return found

    def _units(self) -> list[tuple[Scope, Layer, list[Work]]]:
        ended: list[tuple[Scope, Layer, list[Work]]] = []
        if self.before is not None and self.before.is_open:
            ended = [(self._ending(self.before), self.before, self.before.parts[2])]
        if self.layer is None:
            return ended
        first, second = (self._scope(self.layer, half) for half in (0, 1))
        head, middle, tail = self.layer.parts
        return [
            (first, self.layer, head),
            *ended,
            (second, self.layer, head),
            (first, self.layer, middle),
            (second, self.layer, middle),
            (first, self.layer, tail),
        ]

    def _scope(self, layer: Layer, half: int) -> Scope:
        """Where a half of the layer has its memory."""
        lags = half == 1 and layer.is_open
        names: dict[Root, Root] = {}
        for number in range(layer.carried):
            argument: Root = layer.function.body.block.args[number]
            if self.before is not None:
                handed = half == 1 and self.before.is_open
                own: Root = Handed(number) if handed else Part(Shared(number), half)
                names[argument] = own
            else:
                names[argument] = Part(argument, half)
            if not lags:
                names[layer.reading.results[number]] = Part(Shared(number), half)
        if lags:
            names |= {root: Leaving(number) for number, root in enumerate(layer.left)}
        return _scope_of(layer, names, half, behind=False, arguments=layer.function)

    def _ending(self, before: Layer) -> Scope:
        """Where the second half of the layer before has its memory while its tail runs."""
        results = before.reading.results[: before.carried]
        names: dict[Root, Root] = {root: Given(number) for number, root in enumerate(before.left)}
        names |= {
            root: Part(Shared(number), 1) if self.layer is None else Handed(number)
            for number, root in enumerate(results)
        }
        return _scope_of(before, names, 1, behind=True, arguments=self.function)

    def frame(self) -> Frame:
        """What it is called with: as its layer, then what was left; and what it gives."""
        values = self.function.body.block.args
        attributes = self.function.arg_attrs or ArrayAttr([DictionaryAttr({})] * len(values))
        held = self.layer or self.before
        assert held is not None
        arguments: list[tuple[Root, SSAValue, DictionaryAttr]] = []
        for value, about in zip(values, attributes, strict=True):
            if self.layer is not None or "graph.state" not in about.data:
                arguments.append((value, value, about))
        before = self.before
        for number, left in enumerate(self.given):
            assert before is not None
            sizes = ArrayAttr([StringAttr(name) for name in before.sizes_of(left)])
            names = {"graph.name": StringAttr(f"left{number}"), "graph.sizes": sizes}
            arguments.append((Given(number), left, DictionaryAttr(names)))
        outputs: list[Piece] = [
            (Shared(number), type_of(value), value.name_hint)
            for number, value in enumerate(values[: held.carried])
        ]
        outputs += [
            (Leaving(number), type_of(value), value.name_hint)
            for number, value in enumerate(self.leaving)
        ]
        states = held.reading.results[held.carried :] if self.layer is not None else []
        properties: dict[str, Attribute] = {"halves": attribute_of([held.carried, len(self.given)])}
        if self.before is not None:
            properties["begun"] = attribute_of(held.carried)
        results = [*(root for root, *_ in outputs[: held.carried]), *states]
        return Frame(self.name, self.function.location, arguments, outputs, results, properties)


def _renamed(root: Root, scope: Scope) -> Root:
    if isinstance(root, Part):
        return Part(_renamed(root.whole, scope), root.key)
    return scope.renamed(root)


def _scope_of(
    layer: Layer, names: Mapping[Root, Root], half: int, behind: bool, arguments: FuncOp
) -> Scope:
    """`arguments` of the program are those of that function."""
    attributes = layer.function.arg_attrs

    def renamed(root: Root) -> Root:
        if root in names:
            return names[root]
        if isinstance(root, BlockArgument):
            own = arguments.body.block.args[root.index]
            axes = axes_of(attributes.data[root.index]) if attributes is not None else ()
            return Part(own, half) if {TOKENS, SEQUENCES} & {*axes} else own
        if root in layer.prepared:
            return root
        if isinstance(root, OpResult | Back | Copied | Spare):
            return OfHalf(root, half)
        return root

    return Scope(layer.reading.root, renamed, half, behind)


# ---- the windows of an op ----------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """How layers run in windows: the programs, their order, and what each leaves to the next."""

    programs: list[Window]
    kinds: list[int]
    """For each window in order the number of its program."""
    uses: list[list[int]]
    """For each program the stacks of states that its layer uses."""
    slots: list[TensorType[Attribute]]
    """The type of each piece of memory for what is left."""
    places: dict[str, list[int]]
    """Name of a layer -> the slot of each of its values that are left."""
    bytes: list[int]
    """Of each slot."""

    def properties(self) -> dict[str, Attribute]:
        """Those that differ from the properties of the layers."""
        return {
            "functions": ArrayAttr([SymbolRefAttr(one.name) for one in self.programs]),
            "kinds": attribute_of(self.kinds),
            "uses": ArrayAttr([attribute_of(held) for held in self.uses]),
            "left_in": ArrayAttr([attribute_of(self._slots(one.before)) for one in self.programs]),
            "left_out": ArrayAttr([attribute_of(self._slots(one.layer)) for one in self.programs]),
        }

    def _slots(self, layer: Layer | None) -> list[int]:
        return [] if layer is None else self.places[layer.name]


def windows_of(op: graph.Layers, layers: Mapping[str, Layer]) -> Windows:
    """The windows of layers that run in two micro-batches."""
    names = [python_value(symbol) for symbol in op.functions]
    uses = {name: [*python_value(held)] for name, held in zip(names, op.uses, strict=True)}
    order = [layers[names[kind]] for kind in op.kinds.get_values()]
    for layer in {one.name: one for one in order}.values():
        layer.check()
    steps: list[Window] = []
    before: Layer | None = None
    for layer in order:
        steps.append(Window(layer, before))
        before = layer
    if before is not None and before.is_open:
        steps.append(Window(None, before))
    programs = list({one.name: one for one in steps}.values())
    numbers = {one.name: number for number, one in enumerate(programs)}
    slots: list[TensorType[Attribute]] = []
    places = {layer.name: _places(layer, slots) for layer in order}
    sizes = [0] * len(slots)
    for layer in order:
        for value, slot in zip(layer.left, places[layer.name], strict=True):
            sizes[slot] = max(sizes[slot], layer.reading.sizes[value])
    return Windows(
        programs,
        [numbers[one.name] for one in steps],
        [[] if one.layer is None else uses[one.layer.name] for one in programs],
        slots,
        places,
        sizes,
    )


def _places(layer: Layer, slots: list[TensorType[Attribute]]) -> list[int]:
    """A slot for each value that a layer leaves: the first free one of its type, or a new one."""
    taken: list[int] = []
    for value in layer.left:
        kind = type_of(value)
        free = [n for n, held in enumerate(slots) if held == kind and n not in taken]
        if not free:
            slots.append(kind)
            free = [len(slots) - 1]
        taken.append(free[0])
    return taken
