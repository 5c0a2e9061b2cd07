"""One IR function while it is built: its ops with source lines, its state, its call vectors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from xdsl.dialects import func
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    FunctionType,
    LocationAttr,
    NameLoc,
    StringAttr,
    TensorType,
    UnknownLoc,
    f32,
    i32,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.utils.exceptions import VerifyException

from supertile.frontend.dimensions import Size
from supertile.frontend.values import StateValue, TensorValue
from supertile.ir import graph
from supertile.ir.errors import Spot, UserError
from supertile.ir.locations import at
from supertile.ir.types import DYNAMIC, StateAttr, index, is_float, tensor, type_of

TOKENS = Size.of("T")
SEQUENCES = Size.of("B")
LARGEST_SIZE = 2**63 - 1
RANK_LIMIT = 8  # axes of a tensor


def location(where: Spot) -> LocationAttr:
    """The IR location of a source position; files by their last name, so that text repeats."""
    return at(_file(where.file), where.line, where.column)


@lru_cache(maxsize=64)
def _file(path: str) -> str:
    return PurePath(path).name


# Axes that a run determines, apart from T and B. No name of a model file holds a colon.


def seen_axis(window: int) -> Size:
    """What `append` to a ring lets tokens see: the kept rows and the new ones."""
    return Size.of(f"seen:{window}")


def blocks_axis(ratio: int) -> Size:
    """The entries of `blocks[ratio]`."""
    return Size.of(f"S:{ratio}")


def windows_axis(ratio: int) -> Size:
    """The windows of `ratio` tokens that a call completes."""
    return Size.of(f"windows:{ratio}")


def number_of(axis: Size, kind: str) -> int | None:
    """The number in an axis of one of the kinds above; None for all others."""
    name, _, number = str(axis).partition(":")
    return int(number) if name == kind and number else None


@dataclass
class HeldState:
    """A state argument: its declaration, the value that holds it now, whether it was used."""

    state: StateValue
    element: Attribute
    value: SSAValue
    used_at: Spot | None = None


class FunctionBuilder:
    """Appends ops to a function; `finish` closes it.

    Every function takes, after its own arguments, the call vectors `sequence` [T], `position` [T]
    and `length` [B], a layer function also the number of its layer, and then its state.
    """

    def __init__(self, name: str, known: dict[str, int], reference: bool, in_layer: bool) -> None:
        self.name = name
        self.known = known
        self.reference = reference
        self.block = Block()
        self.arguments: list[dict[str, Attribute]] = []
        self.states: dict[str, HeldState] = {}
        self.windows: dict[Size, tuple[SSAValue, SSAValue]] = {}
        self.constants: dict[float, SSAValue] = {}
        self.results: list[TensorValue] = []
        self.weights: dict[str, tuple[TensorType[Attribute], Spot]] = {}
        self.in_layer = in_layer
        self.layer: SSAValue | None = None

    # -- sizes and types

    def size(self, size: Size, where: Spot) -> int:
        """The number of a size under the config; `DYNAMIC` if known only at run time."""
        try:
            value = size.value(self.known)
        except ZeroDivisionError:
            raise UserError("language.number", where) from None
        if value is None:
            return DYNAMIC
        if not isinstance(value, int):
            raise UserError("language.fraction", where, size=size, value=value)
        if not 0 <= value <= LARGEST_SIZE:
            raise UserError("language.size_range", where, size=size, value=value)
        return value

    def known_size(self, size: Size, where: Spot, least: int = 1) -> int:
        """A size that the config determines."""
        value = self.size(size, where)
        if value == DYNAMIC:
            raise UserError("language.run_time_size", where, size=size)
        if value < least:
            raise UserError("language.size_range", where, size=size, value=value)
        return value

    def element(self, declared: Attribute) -> Attribute:
        """What an activation of this format is held in: the reference keeps float32."""
        return f32 if self.reference and is_float(declared) else declared

    # -- arguments

    def add_argument(
        self, name: str, axes: Sequence[Size], element: Attribute, where: Spot, **more: Attribute
    ) -> TensorValue:
        kind = tensor([self.size(axis, where) for axis in axes], element)
        value = self.block.insert_arg(kind, len(self.block.args))
        hint_name(value, name.split("#")[0])
        sizes = ArrayAttr([StringAttr(str(axis)) for axis in axes])
        self.arguments.append({"graph.name": StringAttr(name), "graph.sizes": sizes, **more})
        return TensorValue(value, tuple(axes))

    def add_call_vectors(self, where: Spot) -> None:
        """The arguments that every function has, behind its own."""
        self.sequence = self.add_argument("sequence", [TOKENS], i32, where)
        self.position = self.add_argument("position", [TOKENS], i32, where)
        self.length = self.add_argument("length", [SEQUENCES], i32, where)
        self.windows[TOKENS] = (self.sequence.ssa, self.position.ssa)
        if self.in_layer:
            self.layer = self.block.insert_arg(index, len(self.block.args))
            self.layer.name_hint = "layer"
            self.arguments.append({"graph.name": StringAttr("layer")})

    def add_state(self, state: StateValue, element: Attribute, where: Spot) -> StateValue:
        """Declare state; it becomes an argument and, updated, a result."""
        if state.name in self.states:
            raise UserError("language.state_twice", where, name=state.name.rsplit(".", 1)[-1])
        element = self.element(element)
        mark = StateAttr.of(state.kind, state.name, state.sizes)
        held = self.add_argument(state.name, state.axes, element, where, **{"graph.state": mark})
        self.states[state.name] = HeldState(state, element, held.ssa)
        return state

    def use_state(self, state: StateValue, where: Spot) -> SSAValue:
        """The value of a state, for its one use."""
        held = self.states[state.name]
        if held.used_at is not None:
            raise UserError("language.state_twice", where, name=state.name.rsplit(".", 1)[-1])
        held.used_at = where
        return held.value

    def keep_state(self, state: StateValue, value: SSAValue) -> None:
        self.states[state.name].value = value

    # -- ops

    def add(self, op: Operation, where: Spot) -> Operation:
        op.location = location(where)
        self.block.add_op(op)
        return op

    def emit(
        self, op: type[graph.GraphOp], groups: list[Any], where: Spot, /, **properties: Any
    ) -> Operation:
        """Add an op with inferred types; `element` is the result's element where it rounds."""
        try:
            made = graph.create(op, groups, **properties)
        except VerifyException as error:
            reason = str(error).replace(str(DYNAMIC), "?")
            raise UserError("language.op", where, op=op.name, reason=reason) from None
        rank = max(len(type_of(result).shape) for result in made.results)
        if rank > RANK_LIMIT:
            raise UserError("language.axes", where, limit=RANK_LIMIT, found=rank)
        return self.add(made, where)

    def constant(self, value: float, where: Spot) -> SSAValue:
        """A scalar; each number once in a function."""
        if value not in self.constants:
            self.constants[value] = self.emit(graph.Constant, [], where, value=value).results[0]
        return self.constants[value]

    def call_vectors(self) -> list[SSAValue]:
        return [self.sequence.ssa, self.position.ssa, self.length.ssa]

    def rows_of(self, size: Size) -> tuple[SSAValue, SSAValue] | None:
        """Sequence and first position of each row, for axes that are tokens or windows."""
        return self.windows.get(size)

    def completed_windows(self, ratio: int, where: Spot) -> Size:
        """The axis of the windows of `ratio` tokens that this call completes."""
        size = windows_axis(ratio)
        if size not in self.windows:
            op = self.emit(graph.CompletedWindows, [*self.call_vectors()], where, ratio=ratio)
            self.windows[size] = (op.results[0], op.results[1])
        return size

    # -- the end

    def finish(self, names: list[str], where: Spot) -> func.FuncOp:
        """Close the function: its results, then its state."""
        states = [held.value for held in self.states.values()]
        values = [*(value.ssa for value in self.results), *states]
        self.add(func.ReturnOp(*values), where)
        kind = FunctionType.from_lists(
            [argument.type for argument in self.block.args], [value.type for value in values]
        )
        function = func.FuncOp(
            self.name,
            kind,
            Region(self.block),
            arg_attrs=ArrayAttr([DictionaryAttr(held) for held in self.arguments]),
        )
        function.attributes["graph.results"] = ArrayAttr([StringAttr(name) for name in names])
        function.location = location(where)
        return function


def name_value(value: SSAValue, name: str) -> None:
    """Give a value the name it has in the model file, unless an inner name came first."""
    op = value.owner
    if not isinstance(op, Operation):
        return
    if value is not op.results[0]:
        hint_name(value, value.name_hint or name)
        return
    if isinstance(op.location, NameLoc | UnknownLoc) or isinstance(op, graph.Weight):
        return
    op.location = NameLoc(StringAttr(name), op.location)
    hint_name(value, name)


def hint_name(value: SSAValue, name: str) -> None:
    """What IR text calls a value: the last part of its name, where that can be a name."""
    last = re.sub(r"\W", "_", name.rsplit(".", 1)[-1], flags=re.ASCII)
    value.name_hint = None if not last or last[0].isdigit() else last
