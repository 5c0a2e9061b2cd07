"""Experts in waves: rows of one run of slots arrive, are multiplied and go back before the next.

Nothing but the order of the work differs, so that all bits are those of one wave.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from small_models import Array

from supertile.ir.placement import Placement, place
from supertile.runtime.comm_ops import combine, dispatch
from supertile.runtime.graph_ops import grouped_linear
from supertile.targets.deploy import spread

CHANNELS, CHOICES, EXPERTS = 5, 3, 8


@dataclass
class Batch:
    """Tokens of all ranks, and the weights of all experts."""

    placement: Placement
    x: list[Array]
    chosen: list[Array]
    weights: Array

    @staticmethod
    def of(placement: Placement, seed: int) -> "Batch":
        generator = np.random.default_rng(seed)
        counts = generator.integers(0, 7, placement.ranks)
        x = [generator.standard_normal((n, CHANNELS)).astype(np.float32) for n in counts]
        chosen = [
            generator.random((n, EXPERTS)).argsort(1)[:, :CHOICES].astype(np.int32) for n in counts
        ]
        weights = generator.standard_normal((EXPERTS, CHANNELS, CHANNELS)).astype(np.float32)
        return Batch(placement, x, chosen, weights)

    def at_once(self) -> list[Array]:
        share = [np.ones(own.shape, np.float32) for own in self.chosen]
        sent = dispatch(self.x, self.chosen, share, self.placement)
        done = [
            grouped_linear(rows, self.weights[[*self.placement.slots[rank]]], counts)
            for rank, (rows, _, counts, _) in enumerate(sent)
        ]
        return [own for (own,) in combine(done, [origin for *_, origin in sent], self.chosen)]

    def in_waves(self, waves: int) -> list[Array]:
        """Results go to a place of their own for each choice; the sum comes last."""
        back = [np.full((*own.shape, CHANNELS), np.nan, np.float32) for own in self.chosen]
        starts = [np.cumsum([0, *spread(len(own), waves)]) for own in self.placement.slots]
        for wave in range(waves):
            for rank, held in enumerate(starts):
                self._wave(rank, range(held[wave], held[wave + 1]), back)
        return [self._summed(own, rows) for own, rows in zip(self.chosen, back, strict=True)]

    def _wave(self, rank: int, slots: range, back: list[Array]) -> None:
        """One wave of a rank: its rows in the order of slots, sources and tokens."""
        places = [
            (source, token, choice)
            for slot in slots
            for source, own in enumerate(self.chosen)
            for token, choice in np.ndindex(own.shape)
            if self.placement.target(int(own[token, choice]), source, token) == (rank, slot)
        ]
        arrived = [self.x[source][token] for source, token, _ in places]
        rows = np.array(arrived, np.float32).reshape(-1, CHANNELS)
        owners = [self.placement.target(int(self.chosen[s][t, k]), s, t).slot for s, t, k in places]
        counts = np.array([owners.count(slot) for slot in slots], np.int32)
        experts = [self.placement.slots[rank][slot] for slot in slots]
        if experts:
            done = grouped_linear(rows, self.weights[experts], counts)
            for (source, token, choice), row in zip(places, done, strict=True):
                back[source][token, choice] = row

    def _summed(self, chosen: Array, rows: Array) -> Array:
        total = np.empty((len(chosen), CHANNELS), np.float32)
        for token, own in enumerate(chosen):
            first, *others = np.argsort(own, kind="stable")
            total[token] = rows[token, first]
            for choice in others:
                total[token] += rows[token, choice]
        return total


def same(found: list[Array], wanted: list[Array]) -> bool:
    return [own.tobytes() for own in found] == [own.tobytes() for own in wanted]


@pytest.mark.parametrize("asked", [(1, ()), (3, ()), (3, (1, 5, 2)), (4, (3,))])
@settings(max_examples=15, deadline=None)
@given(waves=st.integers(1, 6), seed=st.integers(0, 1000))
def test_waves_have_the_bits_of_one(asked, waves, seed):
    """Also with more waves than a rank has slots: then some are empty."""
    batch = Batch.of(place(EXPERTS, *asked), seed)
    assert same(batch.in_waves(waves), batch.at_once())


def test_sums_in_another_order_would_be_noticed():
    batch = Batch.of(place(EXPERTS, 3), 1)
    batch._summed = lambda chosen, rows: rows[:, ::-1].sum(1)  # type: ignore[method-assign]
    assert not same(batch.in_waves(2), batch.at_once())
