"""Experts in waves: rows of one run of slots arrive, are multiplied and go back before the next.

Nothing but the order of the work differs, so that all bits are those of one wave.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from small_models import Array

from supertile.ir import comm
from supertile.ir.placement import Placement, place
from supertile.passes.schedule_waves import runs_of
from supertile.runtime.comm_ops import (
    EXCHANGES,
    bring_back,
    combine,
    dispatch,
    rows_of_slots,
    sum_of_choices,
)
from supertile.runtime.graph_ops import grouped_linear

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
        share = [np.ones(own.shape, np.float32) for own in self.chosen]
        counts = rows_of_slots(self.chosen, self.placement)
        back = [np.full((*own.shape, CHANNELS), np.nan, np.float32) for own in self.chosen]
        for wave in runs_of(self.placement.width, min(waves, self.placement.width)):
            sent = EXCHANGES[comm.Dispatch].together(
                self.x, self.chosen, share, placement=self.placement, slots=wave.slots
            )
            done = []
            for rank, (rows, _, own, _) in enumerate(sent):
                slots = slice(wave.slots.start, wave.slots.stop)
                assert own[slots].tolist() == counts[rank][slots].tolist()
                experts = [*self.placement.slots[rank]][slots]
                held = self.weights[experts]
                done.append(grouped_linear(rows, held, own[slots]) if experts else rows)
            bring_back(done, [origin for *_, origin in sent], self.chosen, back)
        return [sum_of_choices(*own) for own in zip(back, self.chosen, strict=True)]


def same(found: list[Array], wanted: list[Array]) -> bool:
    return [own.tobytes() for own in found] == [own.tobytes() for own in wanted]


@pytest.mark.parametrize("asked", [(1, ()), (3, ()), (3, (1, 5, 2)), (4, (3,))])
@settings(max_examples=15, deadline=None)
@given(waves=st.integers(1, 6), seed=st.integers(0, 1000))
def test_waves_have_the_bits_of_one(asked, waves, seed):
    """On ranks with fewer slots than others some waves are empty."""
    batch = Batch.of(place(EXPERTS, *asked), seed)
    assert same(batch.in_waves(waves), batch.at_once())


def test_sums_in_another_order_would_be_noticed():
    batch = Batch.of(place(EXPERTS, 3), 1)
    other = [own[:, ::-1] for own in batch.chosen]  # the same rows, later experts first
    assert same(batch.in_waves(2), batch.at_once())
    batch.chosen = other
    assert same(batch.in_waves(2), batch.at_once()), "sums go by expert, not by place"
    rows = np.float32([[1e8, 1.0, -1e8]]).reshape(1, 3, 1)
    first, last = (np.int32([own]) for own in ([0, 1, 2], [0, 2, 1]))
    assert not same([sum_of_choices(rows, first)], [sum_of_choices(rows, last)])
