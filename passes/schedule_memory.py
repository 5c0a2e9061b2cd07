"""Places the buffers of a program in one arena: bytes are shared by buffers that never meet.

Two buffers never meet if every user of one ends before any part of the other is written. Where
that does not follow from what tasks read, edges make it so, but only between tasks of the compute
lane, which runs them one after the other anyway, and only if no transfer gets more to wait for, or
is waited for by more: nothing which could overlap with a transfer is held back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from supertile.passes.schedule_edges import COMPUTE, Root, Step, ancestors, whole_of

ALIGNMENT = 256
"""Bytes; the longest access of the machines that we know."""


@dataclass(frozen=True)
class Span:
    """A buffer: all its users, in program order, and how many bytes it needs."""

    root: Root
    users: tuple[int, ...]
    size: int

    @property
    def padded(self) -> int:
        return aligned(self.size)


@dataclass(frozen=True)
class Arena:
    """Where each buffer begins, how long the arena is, and the edges that sharing needs."""

    offsets: dict[Root, int]
    size: int
    live: int
    """The most bytes that hold values still needed at one point of program order: a lower bound."""
    edges: tuple[tuple[int, int], ...]
    """(user of the earlier buffer, writer of the later one)."""


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def spans_of(steps: Sequence[Step], sizes: dict[Root, int]) -> list[Span]:
    """The buffers with a size each, in order of their first users, which write them."""
    users: dict[Root, list[int]] = {}
    for number, step in enumerate(steps):
        for root in {whole_of(root) for root in step.touched} & sizes.keys():
            users.setdefault(root, []).append(number)
    rank = {root: number for number, root in enumerate(sizes)}
    order = sorted(users, key=lambda root: (users[root][0], rank[root]))
    return [Span(root, tuple(users[root]), sizes[root]) for root in order]


def plan_arena(steps: Sequence[Step], edges: Sequence[set[int]], spans: Sequence[Span]) -> Arena:
    """First fit, the largest buffer first; ties in order of first use."""
    sharing = _Sharing.of(steps, ancestors(edges))
    numbers = sorted(range(len(spans)), key=lambda n: (-spans[n].padded, n))
    starts: dict[int, int] = {}
    for number in numbers:
        taken = [
            (starts[other], starts[other] + spans[other].padded)
            for other in starts
            if not sharing.may(spans[min(number, other)], spans[max(number, other)])
        ]
        starts[number] = _first_gap(sorted(taken), spans[number].padded)
    shared = [
        (first, second)
        for first, second in combinations(range(len(spans)), 2)
        if _overlap(starts[first], spans[first], starts[second], spans[second])
    ]
    return Arena(
        {spans[number].root: start for number, start in starts.items()},
        max((start + spans[number].padded for number, start in starts.items()), default=0),
        live_bytes(spans, len(steps)),
        tuple(
            sorted(
                {
                    (user, first)
                    for a, b in shared
                    for user in spans[a].users
                    for first in sharing.firsts(spans[b])
                }
            )
        ),
    )


def live_bytes(spans: Sequence[Span], actions: int) -> int:
    """The most bytes between first and last use at one action of program order."""
    changes = [0] * (actions + 1)
    for span in spans:
        changes[span.users[0]] += span.padded
        changes[span.users[-1] + 1] -= span.padded
    live = most = 0
    for change in changes:
        live += change
        most = max(most, live)
    return most


@dataclass(frozen=True)
class _Sharing:
    steps: Sequence[Step]
    before: Sequence[int]
    """For each action all that comes before it for its data."""
    behind: Sequence[int]
    """For each action all that comes behind it."""
    links: int
    """The actions that are not on the compute lane."""
    known: dict[Span, tuple[int, ...]] = field(default_factory=dict)

    @staticmethod
    def of(steps: Sequence[Step], before: Sequence[int]) -> _Sharing:
        behind = [
            sum(1 << late for late, held in enumerate(before) if held >> early & 1)
            for early in range(len(steps))
        ]
        links = sum(1 << number for number, step in enumerate(steps) if step.lane != COMPUTE)
        return _Sharing(steps, before, behind, links)

    def may(self, first: Span, second: Span) -> bool:
        """Whether the second may take bytes of the first, which is written before it."""
        return all(
            self._precedes(user, writer) for writer in self.firsts(second) for user in first.users
        )

    def firsts(self, span: Span) -> tuple[int, ...]:
        """The users that none other comes before: its writer, or those of parts of it."""
        if span not in self.known:
            own = sum(1 << user for user in span.users)
            self.known[span] = tuple(user for user in span.users if not self.before[user] & own)
        return self.known[span]

    def _precedes(self, user: int, writer: int) -> bool:
        if self.before[writer] >> user & 1:
            return True
        if user >= writer or (1 << user | 1 << writer) & self.links:
            return False
        # Chains of such edges keep to this too: the sets only grow along them.
        held_back = self.links & self.before[user] & ~self.before[writer]
        holding = self.links & self.behind[writer] & ~self.behind[user]
        return not held_back and not holding


def _first_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """The lowest start of `size` bytes beside what is taken."""
    start = 0
    for low, high in taken:
        if start + size <= low:
            break
        start = max(start, high)
    return start


def _overlap(a: int, first: Span, b: int, second: Span) -> bool:
    return a < b + second.size and b < a + first.size
