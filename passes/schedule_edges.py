"""Which actions of a program must follow which: from what they read and write, without detours.

Actions are numbered in program order, which is one of the orders that the result allows. A set of
actions is an integer whose bit n stands for action n: unions and look-ups are single operations.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

Root = Hashable
"""Memory: an argument, a weight, a result, a buffer; or a `Part` of one, as which it is used."""


@dataclass(frozen=True)
class Part:
    """A part of memory: the rows of a wave, or what belongs to one of two micro-batches.

    Parts of one piece of memory with different keys share no bytes.
    """

    whole: Root
    key: Hashable


def whole_of(root: Root) -> Root:
    """The memory that a part is of; memory that is no part is its own."""
    while isinstance(root, Part):
        root = root.whole
    return root


COMPUTE, LINK = "compute", "link"


@dataclass
class Step:
    """An action to be: what it reads and writes, and on which lane it runs."""

    reads: list[Root]
    writes: list[Root]
    lane: str = COMPUTE

    @property
    def touched(self) -> set[Root]:
        return {*self.reads, *self.writes}


@dataclass
class _Users:
    """Who wrote a piece of memory last, and who has read that."""

    writer: int | None = None
    readers: list[int] = field(default_factory=list)


def data_edges(steps: Sequence[Step]) -> list[set[int]]:
    """For each action those before it that it must follow: it reads what they write, it overwrites
    what they read, or it overwrites what they write."""
    users: dict[Root, _Users] = {}
    edges: list[set[int]] = []
    for number, step in enumerate(steps):
        before: set[int] = set()
        for root in step.touched:
            before |= _conflicts(users.setdefault(root, _Users()), root in step.writes)
        for root in step.touched:
            _note(users[root], number, root in step.writes)
        edges.append(before)
    return edges


def _conflicts(users: _Users, writes: bool) -> set[int]:
    before = set() if users.writer is None else {users.writer}
    return before | set(users.readers) if writes else before


def _note(users: _Users, number: int, writes: bool) -> None:
    if writes:
        users.writer, users.readers = number, []
    else:
        users.readers.append(number)


def ancestors(edges: Sequence[set[int]]) -> list[int]:
    """For each action the set of all that must come before it, directly or not."""
    before: list[int] = []
    for own in edges:
        held = 0
        for number in own:
            held |= before[number] | 1 << number
        before.append(held)
    return before


def reduced(edges: Sequence[set[int]]) -> list[list[int]]:
    """The fewest edges with the same ancestors: an edge goes if another path leads the same way."""
    before = ancestors(edges)
    kept = []
    for own in edges:
        implied, direct = 0, []
        # The nearest first: whatever leads to an action beyond comes behind it in program order.
        for number in sorted(own, reverse=True):
            if not implied >> number & 1:
                direct.append(number)
                implied |= before[number]
        kept.append(sorted(direct))
    return kept
