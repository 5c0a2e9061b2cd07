"""What expert parallelism sends: messages, bytes and distinct targets of every rank in one layer.

Counted from a routing, or expected for balanced routing, where each token chooses K of E experts,
every K of them alike. Without deduplication each choice is a message of its own; with it a rank
gets one copy of a token however many of its experts the token chose, and sends one sum back. Rows
for experts on the token's own rank are not sent.

Closed forms, e the experts whose tokens a source sends to a target, n tokens a source:

    distinct targets of a token    sum over targets of 1 - C(E - e, K) / C(E, K)
                                   = P (1 - C(E - E/P, K) / C(E, K)) for P equal targets
    largest of G Poisson loads     E[max] = sum over x >= 0 of 1 - F(x)^G

A target is a rank, or a domain: so many consecutive ranks that share a network. The first is what
DeepEP V2 sizes its kernels by (`get_theoretical_num_sms`, balanced gate); the
second takes the loads of ranks as independent, which routing makes them nearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir import portable_math
from supertile.ir.comm_work import CopyBytes
from supertile.ir.placement import IDLE, WHOLE, Placement
from supertile.runtime.copies import Copies, copies_of
from supertile.targets.cost.largest import expected_largest

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Traffic:
    """Rows between ranks for one layer, [ranks] each; whole numbers, or expected values.

    A copy is a token with one of its choices; a distinct one is a token with one target rank.
    """

    tokens: Floats
    choices: int
    copies_out: Floats
    """Copies that a rank sends to other ranks."""
    distinct_out: Floats
    copies_in: Floats
    """Copies that a rank receives from other ranks."""
    distinct_in: Floats
    local: Floats
    """Copies that stay on the rank."""
    arrived: Floats
    """Rows that the experts of the rank work on: received and local."""

    def bytes_out(self, each: CopyBytes, deduplicated: bool = False) -> Floats:
        """Bytes that a rank sends: rows with routing to experts, results back to their tokens."""
        to, back = self._directions(deduplicated)
        return to[0] * each.out + self.copies_out * each.routing + back[0] * each.back

    def bytes_in(self, each: CopyBytes, deduplicated: bool = False) -> Floats:
        """Bytes that a rank receives."""
        to, back = self._directions(deduplicated)
        return to[1] * each.out + self.copies_in * each.routing + back[1] * each.back

    def messages(self, deduplicated: bool = False) -> Floats:
        """Messages that a rank sends in both directions, one a row."""
        to, back = self._directions(deduplicated)
        return to[0] + back[0]

    def _directions(self, deduplicated: bool) -> tuple[tuple[Floats, Floats], ...]:
        """(sent, received) on the way to the experts, and on the way back: the other way round."""
        to = (self.copies_out, self.copies_in)
        if deduplicated:
            to = (self.distinct_out, self.distinct_in)
        return to, to[::-1]


# ---- from a routing ----------------------------------------------------------------------------


def traffic_of(chosen: Sequence[NDArray[Any]], placement: Placement, devices: int = 1) -> Traffic:
    """The traffic of a routing: chosen [T, K] of each rank, K alike and T as it comes.

    With `devices` what leaves and enters domains of so many consecutive ranks: a copy is one for
    each target domain then, and the ranks of a domain share evenly what enters it.
    """
    ranks = placement.ranks
    tokens = np.array([len(own) for own in chosen])
    source = np.repeat(np.arange(ranks), tokens)
    picked = np.concatenate(list(chosen))
    # The targets of a token, ascending: a copy is distinct where its rank is another than before.
    target = np.sort(_target_ranks(placement, source, tokens, picked) // devices)
    first = np.ones(target.shape, bool)
    first[:, 1:] = target[:, 1:] != target[:, :-1]
    remote = target != (source // devices)[:, None]
    local = _per_rank(source, (~remote).sum(1), ranks)
    received = _received(target[remote], ranks, devices)
    return Traffic(
        tokens=tokens.astype(np.float64),
        choices=picked.shape[1],
        copies_out=_per_rank(source, remote.sum(1), ranks),
        distinct_out=_per_rank(source, (remote & first).sum(1), ranks),
        copies_in=received,
        distinct_in=_received(target[remote & first], ranks, devices),
        local=local,
        arrived=received + local,
    )


def _target_ranks(
    placement: Placement, source: Integers, tokens: Integers, picked: NDArray[Any]
) -> Integers:
    """[N, K]: the rank that each choice of each token goes to; N tokens, source by source."""
    token = np.arange(len(picked)) - np.repeat(np.cumsum(tokens) - tokens, tokens)
    copies, choices = copies_of(placement), picked.shape[1]
    copy = copies.chosen(picked.reshape(-1), source.repeat(choices), token.repeat(choices))
    return copies.rank[copy].reshape(picked.shape)


def hashed_traffic(
    table: NDArray[Any],
    token_ids: Sequence[NDArray[Any]],
    placement: Placement,
    devices: int = 1,
) -> Traffic:
    """The traffic of a hash-routed layer: its table [V, K] names the experts of each token id."""
    return traffic_of([np.asarray(table)[ids] for ids in token_ids], placement, devices)


def _received(domain: Integers, ranks: int, devices: int) -> Floats:
    """Copies that a rank receives, from the domain of each: the ranks of a domain share alike."""
    own = np.arange(ranks) // devices
    result: Floats = (np.bincount(domain, minlength=own[-1] + 1) / np.bincount(own))[own]
    return result


def _per_rank(rank: Integers, amount: NDArray[Any], ranks: int) -> Floats:
    """The sum of the amounts of each rank."""
    return np.bincount(rank, weights=amount, minlength=ranks).astype(np.float64)


@dataclass(frozen=True)
class _Targets:
    """ranks[s mod period, e]: where tokens of source s go for expert e."""

    ranks: Integers
    period: int


def _targets(placement: Placement) -> _Targets:
    """Sources repeat as the numbers of copies do, so that thousands need few rows."""
    counts = [len(copies) for copies in placement.copies]
    period = min(placement.ranks, lcm(*set(counts)))
    sources = np.arange(period)
    columns = [np.array([slot.rank for slot in copies]) for copies in placement.copies]
    table = [column[sources % len(column)] for column in columns]
    return _Targets(np.stack(table, axis=1), period)


# ---- expected ----------------------------------------------------------------------------------


def expected_traffic(tokens: float, choices: int, placement: Placement) -> Traffic:
    """The expected traffic of balanced routing, `tokens` on each rank."""
    if placement.shares is not None:
        return _expected_by_shares(tokens, choices, placement)
    ranks, experts = placement.ranks, placement.experts
    groups = _groups(placement)
    chance = chosen_chance(groups.experts, experts, choices)
    each = tokens * choices / experts  # copies for one expert
    own = _own_experts(placement)
    own_chance = chosen_chance(own, experts, choices)
    distinct = _per_rank(groups.source, chance, groups.period)
    sources = np.arange(ranks) % groups.period
    local: Floats = each * own.astype(np.float64)
    arrived: Floats = each * _per_rank(groups.target, groups.experts * groups.sources, ranks)
    reached = _per_rank(groups.target, chance * groups.sources, ranks)
    return Traffic(
        tokens=np.full(ranks, float(tokens)),
        choices=choices,
        copies_out=tokens * choices - local,
        distinct_out=tokens * (distinct[sources] - own_chance),
        copies_in=arrived - local,
        distinct_in=tokens * (reached - own_chance),
        local=local,
        arrived=arrived,
    )


def _expected_by_shares(tokens: float, choices: int, placement: Placement) -> Traffic:
    """Under shares all sources send alike: over many tokens u is spread evenly for each."""
    ranks, experts = placement.ranks, placement.experts
    copies = copies_of(placement)
    assert copies.share is not None
    each = tokens * choices / experts
    local: Floats = each * _per_rank(copies.rank, copies.share / WHOLE, ranks)
    chance = _reached_chance(copies, experts, choices, ranks)
    return Traffic(
        tokens=np.full(ranks, float(tokens)),
        choices=choices,
        copies_out=tokens * choices - local,
        distinct_out=tokens * (chance.sum() - chance),
        copies_in=(ranks - 1) * local,
        distinct_in=(ranks - 1) * tokens * chance,
        local=local,
        arrived=ranks * local,
    )


def _reached_chance(copies: Copies, experts: int, choices: int, ranks: int) -> Floats:
    """How likely a token reaches each rank: the mean over its number u.

    All choices of a token have one u. A copy takes the numbers of an interval, so between two ends
    of intervals the experts whose tokens come to the rank are the same; they are counted by a sweep
    over the ends, ascending in each rank.
    """
    assert copies.end is not None and copies.share is not None
    end = copies.end - copies.expert * WHOLE
    ends = np.concatenate([end - copies.share, end])
    rank = np.tile(copies.rank, 2)
    step = np.repeat([1, -1], len(end))
    order = np.lexsort((ends, rank))
    ends, rank = ends[order], rank[order]
    held = np.cumsum(step[order])  # each rank's steps add up to 0
    span = np.where(rank[1:] == rank[:-1], np.diff(ends), 0) / WHOLE
    return _per_rank(rank[:-1], span * chosen_chance(held[:-1], experts, choices), ranks)


def distinct_targets(experts: int, targets: Any, choices: int, share: float = 1.0) -> Any:
    """Ranks or domains that a token reaches, its own included: P (1 - C(E - E/P, K) / C(E, K)).

    A number or an array of numbers of targets. With more targets than experts a source knows one
    copy of each expert, on a target of its own. `share`: counting that of a target's experts alone.
    """
    reached = np.minimum(targets, experts)
    chance = chosen_chance(np.ravel(share * experts / reached), experts, choices)
    found = reached * chance.reshape(np.shape(reached))
    return float(found) if np.ndim(found) == 0 else found


def chosen_chance(held: NDArray[Any], experts: int, choices: int) -> Floats:
    """How likely a token chooses at least one of `held` experts: 1 - C(E - e, K) / C(E, K).

    As a product of K factors 1 - e / (E - i), i < K, in logarithms: no binomial is ever formed.
    """
    counts, where = np.unique(np.asarray(held), return_inverse=True)
    share = counts[:, None] / (experts - np.arange(choices))
    missed = portable_math.log1p(-np.minimum(share, 1.0)).sum(axis=1)
    result: Floats = -portable_math.expm1(missed)[where]
    return result


@dataclass(frozen=True)
class _Groups:
    """Pairs of a source class (a source modulo the period) and a target rank."""

    source: Integers
    target: Integers
    experts: Integers
    """Experts whose tokens a source of the class sends to the target."""
    sources: Integers
    """How many sources are of the class."""
    period: int


def _groups(placement: Placement) -> _Groups:
    table = _targets(placement)
    ordered = np.sort(table.ranks, axis=1)
    first = np.ones(ordered.shape, bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    start = np.flatnonzero(first)
    source = start // ordered.shape[1]
    sizes = np.bincount(np.arange(placement.ranks) % table.period, minlength=table.period)
    return _Groups(
        source=source,
        target=ordered.reshape(-1)[start],
        experts=np.diff(start, append=ordered.size),
        sources=sizes[source],
        period=table.period,
    )


def _own_experts(placement: Placement) -> Integers:
    """For each rank, the experts whose tokens of its own it keeps."""
    slots = np.array([len(held) for held in placement.slots])
    rank = np.repeat(np.arange(placement.ranks), slots)
    expert = np.array([expert for held in placement.slots for expert in held])
    rank, expert = rank[expert != IDLE], expert[expert != IDLE]
    order = np.argsort(expert, kind="stable")  # copies of an expert together, ascending by rank
    count = np.bincount(expert, minlength=placement.experts)
    number = np.arange(len(order)) - (np.cumsum(count) - count)[expert[order]]
    kept = rank[order] % count[expert[order]] == number
    return np.bincount(rank[order][kept], minlength=placement.ranks)


# ---- the largest load --------------------------------------------------------------------------


def imbalance(traffic: Traffic) -> float:
    """E[max] / mean of the rows that arrive at a rank: the tail of a finite batch, and of replicas.

    Waiting for the fullest rank costs this factor however good the placement is.
    """
    mean = float(traffic.arrived.mean())
    return expected_largest(traffic.arrived) / mean if mean else 1.0


# ---- as text -----------------------------------------------------------------------------------

QUOTED_KB = (7, 14)


def traffic_table(traffic: Traffic, each: CopyBytes) -> str:
    """Messages, bytes and targets of a layer, beside what is usually quoted: B x K x 2 messages."""
    tokens = traffic.tokens.mean()
    quoted = tokens * traffic.choices
    lines = [
        f"expert traffic of the average rank in one layer, {tokens:,.10g} tokens, "
        f"top {traffic.choices}; a row is {each.out:,} bytes out, {each.back:,} back",
        f"  {'':<22}{'messages':>12}{'MB sent':>10}{'largest':>10}{'targets a token':>17}",
        f"  {'quoted: B x K x 2':<22}{2 * quoted:>12,.1f}"
        f"{quoted * sum(QUOTED_KB) / 1e3:>10,.2f}{'':>10}{traffic.choices:>17.2f}",
    ]
    for label, deduplicated in (("each choice", False), ("one copy a rank", True)):
        sent = traffic.bytes_out(each, deduplicated) / 1e6
        copies = traffic.distinct_out if deduplicated else traffic.copies_out
        lines.append(
            f"  {label:<22}{traffic.messages(deduplicated).mean():>12,.1f}{sent.mean():>10,.2f}"
            f"{sent.max():>10,.2f}{copies.sum() / max(traffic.tokens.sum(), 1):>17.2f}"
        )
    tail = imbalance(traffic)
    lines.append(
        f"  rows at a rank: {traffic.arrived.mean():,.1f} on average, the fullest rank has "
        f"{tail:.2f} times as many, {traffic.messages().mean() * tail:,.1f} messages of choices"
    )
    return "\n".join(lines)
