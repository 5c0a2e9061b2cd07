"""Runs a placed module: every op for all ranks in turn, so that comm ops see all ranks' values.

Each rank has registers, weights and state of its own; ops that talk to no other rank run as in
`execute.py`. A process may run some of the ranks: a communicator reaches the others. A module
without comm ops runs as well: then the ranks are independent.

The sequences of a batch go to the ranks in contiguous runs, the first ranks have one more; so rows
of all tokens are those of the ranks one after the other. A rank without sequences takes part with
no tokens: others may need its experts.

Where ranks are in groups, those of one have the same sequences, each with state of its own. What is
equal on all of them is looked at once; of what is a slice on each nobody is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import TensorType

from supertile.ir import comm, graph
from supertile.ir.errors import UserError
from supertile.ir.group_layout import WHOLE
from supertile.ir.types import DYNAMIC
from supertile.runtime.comm_ops import joined
from supertile.runtime.communicator import Communicator, InProcess
from supertile.runtime.engine import Session, call_vectors
from supertile.runtime.execute import ROUNDING, ExecutionError, Executor
from supertile.runtime.numerics import Scaled
from supertile.runtime.observe import place_text
from supertile.runtime.plan import Argument, FunctionPlan, Step, is_watched, reader

Values = list[Any]  # one for each rank
UNOBSERVED = (graph.Weight, graph.Constant, graph.Layers)


class LockstepExecutor:
    """A plan on many ranks; weights, `watch` and `observed` are those of a plain executor.

    `watch` sees the rows of all ranks one after the other, and what it returns goes back to them;
    of a value without run-time rows it sees that of rank 0.
    """

    def __init__(
        self, whole: Executor, ranks: int, communicator: Communicator | None = None
    ) -> None:
        """`communicator` None: all ranks in this process."""
        self.whole = whole
        self.plan = whole.plan
        self.group = whole.plan.group
        self.communicator = communicator or InProcess(ranks)
        self.ranks = [
            Executor(whole.plan, partial(_weights_on, whole, rank))
            for rank in self.communicator.ranks
        ]

    def call(self, entry: str, arguments: Sequence[list[Any]]) -> list[list[Any]]:
        """Run an entry: the arguments of each rank here; returns the results of each."""
        self.whole.begin_call()
        return self._run(self.plan.functions[entry], arguments, None, self.plan.prefix(entry))

    def _run(
        self,
        function: FunctionPlan,
        arguments: Sequence[list[Any]],
        layer: int | None,
        prefix: str,
    ) -> list[list[Any]]:
        files: list[list[Any]] = []
        for own in arguments:
            files.append([*own, *[None] * (function.registers - len(own))])
        for step in function.steps:
            try:
                results = self._settled(step, files, self._step(step, files, layer), layer, prefix)
            except (ExecutionError, UserError, MemoryError):
                raise
            except Exception as error:
                place = f"{step.source} " if step.source else ""
                raise ExecutionError(
                    f"{place}{step.op.name} in @{function.name}: {error}"
                ) from error
            for file, held in zip(files, results, strict=True):
                _store(step, file, held)
        return [[file[register] for register in function.results] for file in files]

    def _step(self, step: Step, files: list[list[Any]], layer: int | None) -> list[list[Any]]:
        """The results of a step, for each rank."""
        if isinstance(step.op, comm.CommOp):
            return self._communicate(step, layer, files)
        if isinstance(step.op, graph.Layers):
            return self._layers(step, [[*reader(step.inputs)(file)] for file in files])
        pairs = zip(self.ranks, files, strict=True)
        return [rank._step(step, file, layer) for rank, file in pairs]

    def _communicate(
        self, step: Step, layer: int | None, files: list[list[Any]]
    ) -> list[list[Any]]:
        columns = zip(*[[*reader(step.inputs)(file)] for file in files], strict=True)
        properties = placed_properties(step, layer)
        self.communicator.place = place_text(step, layer)
        results = self.communicator.run(type(step.op), [*map(list, columns)], properties)
        return [list(own) for own in results]

    def _layers(self, step: Step, given: Sequence[list[list[Any]]]) -> list[list[Any]]:
        """As `Executor._layers`, for all ranks at once: what is carried, shared, and states."""
        carried = [held[0] for held in given]
        rows = [0] * len(given[0][2])
        for number, kind in enumerate(step.properties["kinds"]):
            function = self.plan.functions[step.properties["functions"][kind]]
            uses = step.properties["uses"][kind]
            arguments = [
                [*own, *shared, number, *(states[stack][rows[stack]] for stack in uses)]
                for own, (_, shared, states) in zip(carried, given, strict=True)
            ]
            for stack in uses:
                rows[stack] += 1
            prefix = f"{step.properties['label']}.{number}."
            results = self._run(function, arguments, number, prefix)
            carried = [held[: len(own)] for held, own in zip(results, carried, strict=True)]
        return [[*own, *states] for own, (*_, states) in zip(carried, given, strict=True)]

    def _settled(
        self,
        step: Step,
        files: list[list[Any]],
        results: list[list[Any]],
        layer: int | None,
        prefix: str,
    ) -> list[list[Any]]:
        """The results rounded, and as those who look on want them."""
        if step.rounds is not None:
            for held in results:
                held[0] = ROUNDING[step.rounds](held[0])
        if self.whole.observes and not isinstance(step.op, UNOBSERVED):
            self._observed(step, files, results, layer)
        if is_watched(step) and self.whole.watch is not None:
            self._watched(f"{prefix}{step.name}", step, results)
        if self.whole.tracker is not None:
            inputs = [reader(step.inputs)(file) for file in files]
            self.whole.tracker.look(step, layer, inputs, results)
        return results

    def _observed(
        self, step: Step, files: list[list[Any]], results: list[list[Any]], layer: int | None
    ) -> None:
        shown = shown_of(step, len(self.ranks), self.group)
        columns = zip(*(results[n] for n in shown), strict=True)
        whole = [merged(list(column)) for column in columns]
        first = whole[0]
        held = self.whole.observed(step, _Merged([files[n] for n in shown]), whole, layer)
        if held[0] is not first:
            self._replace_first(step, results, [own[0] for own in results], held[0])

    def _watched(self, name: str, step: Step, results: list[list[Any]]) -> None:
        assert self.whole.watch is not None
        if self.whole.wanted is not None and not self.whole.wanted(name):
            return
        everywhere = self.communicator.gather([held[0] for held in results])
        shown = shown_of(step, self.communicator.size, self.group)
        values = [everywhere[n] for n in shown]
        if not _has_rows(step):
            self.whole.watch(name, values[0], step)
            return
        whole = merged(values)
        held = self.whole.watch(name, whole, step)
        if held is not whole:
            self._replace_first(step, results, everywhere, held)

    def _replace_first(
        self, step: Step, results: list[list[Any]], everywhere: Values, whole: Any
    ) -> None:
        """Give each rank here its part of a first result for all of them; `everywhere` are the
        first results of all ranks.
        """
        start = 0
        replaced = list(everywhere)
        for n in shown_of(step, self.communicator.size, self.group):
            own = everywhere[n]
            count = own.shape[0] if np.ndim(_codes(own)) else 1
            copies = self.group if step.layout == WHOLE else 1
            part = _part(whole, own, slice(start, start + count))
            replaced[n : n + copies] = [part] * copies
            start += count
        first = self.communicator.ranks[0]
        for held, part in zip(results, replaced[first:], strict=False):
            held[0] = part


def shown_of(step: Step, ranks: int, group: int, parts: int = 1) -> list[int]:
    """Whose values together are those of the batch, in its order; of what is equal in a group those
    of its first rank. Each of the ranks has one value, or one for each of so many `parts` of its
    sequences.
    """
    members = 1 if step.layout == WHOLE else group
    return [
        (first + member) * parts + part
        for first in range(0, ranks, group)
        for part in range(parts)
        for member in range(members)
    ]


def placed_properties(step: Step, layer: int | None) -> dict[str, Any]:
    """The properties of a comm op, with the placement of the layer."""
    if step.placements is None:
        return step.properties
    return {**step.properties, "placement": step.placements.at(layer)}


def _weights_on(whole: Executor, rank: int, use: Any, layer: int | None) -> Any:
    return whole.weights(use.on(rank), layer)


def _store(step: Step, file: list[Any], results: list[Any]) -> None:
    for register, value in zip(step.outputs, results, strict=True):
        file[register] = value
    for register in step.frees:
        file[register] = None


# ---- values of all ranks -----------------------------------------------------------------------


class _Merged:
    """Registers that hold the values of all ranks put together."""

    def __init__(self, files: list[list[Any]]) -> None:
        self.files = files

    def __getitem__(self, register: int) -> Any:
        return merged([file[register] for file in self.files])


def _has_rows(step: Step) -> bool:
    """Whether the first result has a row for each of something that is counted at run time."""
    kind = step.op.results[0].type
    sizes = kind.get_shape() if isinstance(kind, TensorType) else ()
    return bool(sizes) and sizes[0] == DYNAMIC


def merged(values: Values) -> Any:
    """The rows of all ranks one after the other; other axes padded to one size, with NaN or -1."""
    if isinstance(values[0], Scaled):
        return joined(values)
    arrays = [np.atleast_1d(held) for held in values]
    if len({held.shape[1:] for held in arrays}) == 1:
        return np.concatenate(arrays)
    sizes = np.max([held.shape[1:] for held in arrays], axis=0).tolist()
    return np.concatenate([_padded(held, sizes) for held in arrays])


def _padded(held: NDArray[Any], sizes: list[int]) -> NDArray[Any]:
    fill: Any = {"f": np.nan, "i": -1}.get(held.dtype.kind, 0)
    result: NDArray[Any] = np.full((len(held), *sizes), fill, held.dtype)
    result[tuple(slice(0, size) for size in held.shape)] = held
    return result


def _codes(value: Any) -> Any:
    return value.codes if isinstance(value, Scaled) else value


def _part(whole: Any, own: Any, rows: slice) -> Any:
    if isinstance(whole, Scaled):
        return replace(whole, codes=whole.codes[rows], scales=whole.scales[rows])
    inner = tuple(slice(0, size) for size in np.shape(own)[1:])
    return whole[(rows, *inner)].reshape(np.shape(own))


# ---- sessions ----------------------------------------------------------------------------------


class LockstepSession(Session):
    """As `Session`, the batch split over ranks: inputs, outputs and state are those of all ranks.

    An entry that is made for a number of sequences has so many on each rank. In a group each rank
    has its copy of the state, or its slice; `states` are those of the first ranks.
    """

    def __init__(self, executor: LockstepExecutor, entry: str, batch: int, context: int) -> None:
        self.group = executor.group
        groups = executor.communicator.size // self.group
        super().__init__(executor.whole, entry, batch, context, groups)
        self.lockstep = executor
        each, more = divmod(batch, groups)
        counts = [each + (number < more) for number in range(groups)]
        ends = np.cumsum(counts).tolist()
        self.sequences = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        self._axes = [argument.axes.index("B") for argument in self.plan.states]
        others = range(1, self.group)
        self.copies = [
            self.states,
            *([np.zeros_like(held) for held in self.states] for _ in others),
        ]

    def call(self, inputs: dict[str, Any], counts: Sequence[int]) -> dict[str, NDArray[Any]]:
        self.check_context(counts)
        new = np.asarray(counts, np.int32)
        communicator, arguments = self.lockstep.communicator, []
        for rank in communicator.ranks:
            number, member = divmod(rank, self.group)
            sequences = self.sequences[number]
            start = int(new[: sequences.start].sum())
            tokens = slice(start, start + int(new[sequences].sum()))
            own = self._arguments(inputs, new, sequences, tokens, self.copies[member])
            arguments.append(own)
        results = self.lockstep.call(self.entry, arguments)
        self.length = self.length + new
        # Results are those of the entry, then its state, which stays on its rank.
        named = [tuple(held[: len(self.plan.result_names)]) for held in results]
        firsts = communicator.gather(named)[:: self.group]
        outputs = [merged(list(held)) for held in zip(*firsts, strict=True)]
        return dict(zip(self.plan.result_names, outputs, strict=True))

    def whole_states(self) -> list[NDArray[Any]]:
        columns = [list(held) for held in zip(*self.copies, strict=True)]
        return [_whole(*pair) for pair in zip(self.plan.states, columns, strict=True)]

    def _arguments(
        self,
        inputs: dict[str, Any],
        new: NDArray[np.int32],
        sequences: slice,
        tokens: slice,
        copies: Sequence[NDArray[Any]],
    ) -> list[Any]:
        """What a rank is called with: tokens, call vectors and state; its sequences from 0 on."""
        own = [inputs[name][tokens] for name in self.inputs]
        vectors = call_vectors(self.length[sequences], new[sequences])
        states = [
            state[(*(slice(None),) * axis, sequences)]
            for state, axis in zip(copies, self._axes, strict=True)
        ]
        return [*own, *vectors, *states]


def _whole(argument: Argument, copies: list[NDArray[Any]]) -> NDArray[Any]:
    """A state from what the ranks of a group have of it."""
    if argument.shard is None:
        return copies[0]
    shard = argument.shard
    return np.concatenate(copies[:: shard.ranks // shard.parts], shard.axis)
