"""Where the first number came from that is not finite, of those that reached the logits.

Infinities can be right: a mask puts -inf where a softmax or a `top` is not to look, and what those
give is finite. So values are followed. A value that is not finite comes from where the first of its
operands that are not finite comes from, or, if they all are finite, from its own step. A step that
gives finite numbers ends that. What is left at the logits is to blame.

This takes time, so that a run is followed only when its logits are not finite: it is run again.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supertile.ir import comm, graph, sched, tile
from supertile.runtime.communicator import Communicator
from supertile.runtime.numerics import Scaled
from supertile.runtime.plan import ModulePlan, Step

Array = NDArray[Any]
UNSEEN = (graph.Constant, graph.Layers, sched.Layers)
NOWHERE = (2**62, 0)


class Origin(NamedTuple):
    """A step: the call and its number there, in program order, both from 1."""

    call: int
    step: int


class Place(NamedTuple):
    """The memory of an array: addresses, and how it lies there."""

    start: int
    end: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def of(value: Any) -> Place:
        array = value.codes if isinstance(value, Scaled) else value
        start, end = np.lib.array_utils.byte_bounds(array)
        return Place(int(start), int(end), array.shape, array.strides)

    def is_in(self, other: Place) -> bool:
        return other.start <= self.start and self.end <= other.end

    def meets(self, other: Place) -> bool:
        return self.start < other.end and other.start < self.end


class Verdict(NamedTuple):
    """The first value that is not finite, in words."""

    value: str
    """Its name, op, and place in the model file."""
    numbers: str
    """Which numbers are wrong, of which operands."""
    place: str
    """When it was computed."""


@dataclass
class NonFiniteError(Exception):
    """The logits of a token are not finite."""

    what: str
    sequence: int
    token: int


@dataclass
class Tracker:
    """Follows values that are not finite through the steps of a run, on the ranks of a process."""

    plan: ModulePlan
    communicator: Communicator | None = None
    """What reaches ranks that are in other processes."""
    origins: dict[Place, tuple[Origin, weakref.ref[Array]]] = field(default_factory=dict)
    """Where what lies in some memory comes from, if it is not finite, and whose memory that is."""
    texts: dict[Origin, str] = field(default_factory=dict)
    """What is told of a step."""
    call: int = 0
    step: int = 0
    last: Origin | None = None
    """Where the results that are not finite come from of the last step of the entry itself that has
    such ones."""
    entry: str = ""

    def begin(self, entry: str) -> None:
        """Told before every call of an entry."""
        self.call, self.step, self.last, self.entry = self.call + 1, 0, None, entry

    def look(
        self,
        step: Step,
        layer: int | None,
        inputs: Sequence[Sequence[Any]],
        results: Sequence[Sequence[Any]],
    ) -> None:
        """Told after every step: the operands and the results of each rank of this process."""
        if isinstance(step.op, UNSEEN):
            return
        self.step += 1
        before = [self._first(_arrays(operands)) for operands in inputs]
        if isinstance(step.op, comm.CommOp | sched.Transfer):
            before = [self._everywhere(before)] * len(before)
        after = [
            self._note(step, layer, value, origin, operands)
            for origin, operands, values in zip(before, inputs, results, strict=True)
            for value in _arrays(values)
        ]
        if layer is None:
            self.last = _earliest(after) or self.last

    def _note(
        self,
        step: Step,
        layer: int | None,
        value: Any,
        origin: Origin | None,
        operands: Sequence[Any],
    ) -> Origin | None:
        """Where a result comes from, if it is not finite."""
        place = Place.of(value)
        if not _not_finite(value):
            self.origins.pop(place, None)  # but not what it is a view of a part of
            return None
        for known in [key for key in self.origins if key.is_in(place)]:
            del self.origins[known]
        if origin is None:
            origin = Origin(self.call, self.step)
            self.texts.setdefault(origin, self._text(step, layer, value, operands))
        self.origins[place] = origin, weakref.ref(_owner(value))
        return origin

    def _first(self, values: Iterable[Any]) -> Origin | None:
        """Where the first of these values comes from that is not finite."""
        return _earliest(self._origin(value) for value in values if _not_finite(value))

    def _origin(self, value: Any) -> Origin | None:
        place = Place.of(value)
        if place in self.origins:
            return self.origins[place][0]
        parts = [origin for key, origin in self._alive() if key.meets(place)]
        # What waves of transfers bring was not looked at: it was made by some step before.
        return min(parts or [origin for _, origin in self._alive()], default=None)

    def _alive(self) -> list[tuple[Place, Origin]]:
        """What memory holds that is still used."""
        return [
            (key, origin) for key, (origin, owner) in self.origins.items() if owner() is not None
        ]

    def _everywhere(self, origins: Sequence[Origin | None]) -> Origin | None:
        """The first of all ranks, as rows may come from any of them."""
        first = _earliest(origins)
        if self.communicator is None:
            return first
        column = [np.array(first or NOWHERE, np.int64) for _ in origins]
        earliest = min(tuple(row.tolist()) for row in self.communicator.gather(column))
        return None if earliest == NOWHERE else Origin(*earliest)

    def _name(self, step: Step, layer: int | None) -> str:
        """The name of its value, if onlookers see it under one."""
        for named in self.plan.named_steps(self.entry):
            if named.step is step and named.layer == layer:
                return named.name
        return ""

    def _text(self, step: Step, layer: int | None, value: Any, operands: Sequence[Any]) -> str:
        """The value, the op with its place, and which numbers are wrong, in words."""
        name, place = self._name(step, layer), step.source or "the program"
        numbers = value.dequantize() if isinstance(value, Scaled) else value
        wrong = ~np.isfinite(numbers)
        kind = "NaN" if np.isnan(numbers).any() else f"{numbers[wrong].ravel()[0]}"
        largest = max(map(_largest, _arrays(operands)), default=None)
        cause = "" if largest is None else f", of finite operands up to {largest:.3g}"
        if largest is not None and not np.isfinite(largest):
            cause = ", of operands that are not"
        what = f"{name}, {_op_name(step)} at {place}" if name else f"{_op_name(step)} at {place}"
        layer_text = "" if layer is None else f" in layer {layer}"
        return f"{what}{layer_text}\n{kind} in {wrong.sum()} of {wrong.size} numbers{cause}"

    def verdict(self) -> Verdict | None:
        """Of the call that was made last; None if all was finite. All ranks of a job must ask."""
        first = min((origin for _, origin in self._alive()), default=None)
        origin = self._everywhere([self.last or first])
        if origin is None:
            return None
        text = self.texts.get(origin, "")
        if self.communicator is not None:
            width = max(1, len(text.encode()))
            coded = np.frombuffer(text.encode().ljust(width), np.uint8)
            texts = [bytes(row).decode().strip() for row in self.communicator.gather([coded])]
            text = next(filter(None, texts), "")
        name, _, numbers = text.partition("\n")
        steps = f" of {self.step}" if origin.call == self.call else ""
        place = f"step {origin.step}{steps} in the order of the program, call {origin.call}"
        return Verdict(name, numbers, place)


def first_not_finite(logits: Array) -> int | None:
    """The first row of logits [T, V] that is not finite throughout."""
    if not logits.size or (np.isfinite(logits.max()) and np.isfinite(logits.min())):
        return None
    return int(np.flatnonzero(~np.isfinite(logits).all(-1))[0])


def _earliest(origins: Iterable[Origin | None]) -> Origin | None:
    return min((origin for origin in origins if origin is not None), default=None)


def _arrays(values: Iterable[Any]) -> Iterator[Any]:
    """The arrays of numbers among values; constants are none."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _arrays(value)
        elif isinstance(value, Scaled) or _holds_floats(value):
            yield value


def _holds_floats(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size > 0


def _owner(value: Any) -> Array:
    """The array whose memory it is."""
    owner: Array = value.codes if isinstance(value, Scaled) else value
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return owner


def _not_finite(value: Any) -> bool:
    return not bool(np.isfinite(_numbers(value)).all())


def _largest(value: Any) -> float:
    return float(np.abs(_numbers(value)).max(initial=0))


def _numbers(value: Any) -> Array:
    numbers: Array = value.dequantize() if isinstance(value, Scaled) else value
    return numbers


def _op_name(step: Step) -> str:
    """The op of the graph, where one is known: of a kernel the name of its results' op."""
    if isinstance(step.op, tile.Launch) and step.op.values:
        return next(iter(step.op.values)).data.rpartition(" ")[2]
    if isinstance(step.op, sched.Task):
        return f"kernel {step.op.kernel.data}"
    return str(step.op.name)
