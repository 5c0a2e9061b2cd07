"""A model ready to run: plan, weights, and the state of a batch of sequences.

    session = Session(executor, "logits", batch=2, context=64)
    outputs = session.call({"ids": ids}, sequence, count)

A call brings any number of new tokens for any of the sequences, in the order of the sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import TensorType

from supertile.ir.types import DYNAMIC, StateAttr
from supertile.runtime.execute import Executor
from supertile.runtime.plan import Argument

CALL_VECTORS = ("sequence", "position", "length")


class Session:
    """One entry and its state: `length[b]` tokens of sequence b are in it.

    State is allocated once, for `batch` sequences of at most `context` tokens, and updated in place.
    """

    def __init__(self, executor: Executor, entry: str, batch: int, context: int) -> None:
        self.executor = executor
        self.plan = executor.plan.functions[entry]
        self.entry = entry
        self.context = context
        self.length = np.zeros(batch, np.int32)
        self.states = [_allocate(argument, batch, context) for argument in self.plan.states]

    @property
    def inputs(self) -> list[str]:
        """Names of the arguments that a call brings."""
        own = [argument.name for argument in self.plan.arguments if argument.state is None]
        return [name for name in own if name not in CALL_VECTORS]

    @property
    def state_bytes(self) -> int:
        return sum(state.nbytes for state in self.states)

    def call(self, inputs: dict[str, Any], counts: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Run `counts[b]` new tokens of each sequence b; rows of `inputs` are in that order."""
        new = np.asarray(counts, np.int32)
        assert (self.length + new <= self.context).all(), "the caller checks the capacity"
        sequence = np.repeat(np.arange(len(new), dtype=np.int32), new)
        first = np.cumsum(new) - new
        offset = np.arange(len(sequence), dtype=np.int32) - first[sequence]
        position = (self.length[sequence] + offset).astype(np.int32)
        own = [inputs[name] for name in self.inputs]
        arguments = [*own, sequence, position, self.length.copy(), *self.states]
        results = self.executor.call(self.entry, arguments)
        self.length = self.length + new
        return dict(zip(self.plan.result_names, results, strict=False))


def _allocate(argument: Argument, batch: int, context: int) -> NDArray[Any]:
    """Zeros for a state: the sequence axis is the batch, the entry axis holds the context."""
    kind, state = argument.kind, argument.state
    assert isinstance(kind, TensorType) and state is not None
    shape = list(kind.get_shape())
    lead = len(shape) - _state_rank(state, shape)
    if shape[lead] == DYNAMIC:
        shape[lead] = batch
    if shape[lead + 1] == DYNAMIC:
        shape[lead + 1] = -(-context // state.sizes[0])
    return np.zeros(shape, np.float32)


def _state_rank(state: StateAttr, shape: list[int]) -> int:
    """Axes without the layer axis of a stack: the first run-time size is the batch's."""
    return len(shape) - (0 if shape[0] == DYNAMIC else 1)
