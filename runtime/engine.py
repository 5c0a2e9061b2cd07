"""A model ready to run: plan, weights, and the state of a batch of sequences.

    session = Session(executor, "logits", batch=2, context=64)
    outputs = session.call({"ids": ids}, counts=[3, 1])

A call brings any number of new tokens for any of the sequences, in the order of the sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import TensorType

from supertile.ir.types import DYNAMIC
from supertile.runtime.execute import Executor
from supertile.runtime.plan import Argument

CALL_VECTORS = ("sequence", "position", "length")
I32 = NDArray[np.int32]


class CallVectors(NamedTuple):
    """The tokens of a call."""

    sequence: I32
    """[T], ascending"""
    position: I32
    """[T], absolute"""
    length: I32
    """[B]: the tokens of each sequence before the call."""


class Session:
    """One entry and its state: `length[b]` tokens of sequence b are in it.

    State is allocated once, for `batch` sequences of up to `context` tokens, and updated in place.
    An entry that is made for a number of sequences has so many on each of `ranks`.
    """

    def __init__(
        self, executor: Executor, entry: str, batch: int, context: int, ranks: int = 1
    ) -> None:
        self.executor = executor
        self.plan = executor.plan.functions[entry]
        self.entry = entry
        self.context = context
        self.length: I32 = np.zeros(batch, np.int32)
        self.states = [_allocate(one, batch, context, ranks) for one in self.plan.states]

    @property
    def inputs(self) -> list[str]:
        """Names of the arguments that a call brings."""
        own = [argument.name for argument in self.plan.arguments if argument.state is None]
        return [name for name in own if name not in CALL_VECTORS]

    @property
    def state_bytes(self) -> int:
        return sum(state.nbytes for state in self.states)

    def whole_states(self) -> list[NDArray[Any]]:
        """The state of all sequences, as it would be on one rank."""
        return list(self.states)

    def vectors(self, counts: Sequence[int]) -> CallVectors:
        """The call vectors of `counts[b]` new tokens of each sequence b."""
        return call_vectors(self.length, np.asarray(counts, np.int32))

    def call(self, inputs: dict[str, Any], counts: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Run `counts[b]` new tokens of each sequence b; rows of `inputs` are in that order."""
        self.check_context(counts)
        own = [inputs[name] for name in self.inputs]
        arguments = [*own, *self.vectors(counts), *self.states]
        results = self.executor.call(self.entry, arguments)
        self.length = self.length + np.asarray(counts, np.int32)
        # The results of an entry are its own, then its state, which the session has already.
        return dict(zip(self.plan.result_names, results, strict=False))

    def check_context(self, counts: Sequence[int]) -> None:
        """Raise unless the state has room for so many new tokens of each sequence."""
        longest = int((self.length + np.asarray(counts)).max())
        if longest > self.context:
            raise ValueError(f"state for {self.context} tokens cannot hold {longest}")


def call_vectors(length: I32, new: I32) -> CallVectors:
    """The call vectors of `new[b]` tokens of each sequence b after its first `length[b]`."""
    sequence = np.repeat(np.arange(len(new), dtype=np.int32), new)
    first = np.cumsum(new, dtype=np.int32) - new
    offset = np.arange(len(sequence), dtype=np.int32) - first[sequence]
    return CallVectors(sequence, length[sequence] + offset, length.copy())


def _allocate(argument: Argument, batch: int, context: int, ranks: int) -> NDArray[np.float32]:
    """Zeros for a state: sequences and entries as needed, unless the entry is made for a number."""
    assert isinstance(argument.kind, TensorType)
    sizes = list(argument.kind.get_shape())
    for axis, name in enumerate(argument.axes):
        needed = _needed(name, batch, context)
        if name == "B" and sizes[axis] != DYNAMIC:
            sizes[axis] *= ranks
        if sizes[axis] == DYNAMIC:
            sizes[axis] = needed
        if sizes[axis] < needed or (name == "B" and sizes[axis] != needed):
            raise ValueError(f"{argument.name} is made for {name} = {sizes[axis]}, not {needed}")
    return np.zeros(sizes, np.float32)


def _needed(axis: str, batch: int, context: int) -> int:
    """The size of an axis by its name; 0 for axes with a size of their own."""
    if axis == "B":
        return batch
    if axis.startswith("S:"):
        return -(-context // int(axis.removeprefix("S:")))
    return 0
