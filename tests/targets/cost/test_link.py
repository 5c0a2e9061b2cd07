"""Transfers by hand on a machine of round numbers, then what must hold for any of them.

Two devices share a node: 100 GB/s, no protocol, 1 us. Eight share the pod: 50 GB/s, load/store
with 2 us and 20 GB/s, a copy engine with 12 us and 40 GB/s. Half of a bare link is reached.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cost_examples import figure, machine, protocol
from hypothesis import given, settings, strategies as st

from supertile.ir.errors import UserError
from supertile.targets.cost.link import (
    LinkTime,
    all_gather_time,
    all_reduce_time,
    domain_shares,
    transfer_time,
)
from supertile.targets.cost.protocol import crossover
from supertile.targets.machine import Machine, load_machine, machine_names

US, MB = 1e-6, 1e6
MACHINES = {name: load_machine(name) for name in machine_names()}
LAUNCH = 10


def pod(**protocols: Any) -> Machine:
    """The machine with other protocols in the pod."""
    node, outer = machine().domains
    return replace(machine(), domains=(node, replace(outer, protocols=protocols)))


def micros(held: Machine, ranks: int, messages: float, size: float, name: str = "") -> float:
    return float(transfer_time(held, ranks, messages, size, name or "all_to_all").duration / US)


# ---- shares -----------------------------------------------------------------------------------


def parts(held: Machine, ranks: int) -> dict[str, float]:
    return {share.domain.name: float(share.part) for share in domain_shares(held, ranks)}


def test_a_domain_carries_the_share_of_its_ranks() -> None:
    assert parts(machine(), 8) == {"node": 1 / 8, "pod": 6 / 8}
    assert parts(machine(), 2) == {"node": 1 / 2}


def test_the_rank_with_the_fewest_neighbours_is_told_of() -> None:
    # 24 dies: the last 8 share a server, with one die in the package.
    assert parts(load_machine("ascend-910c"), 24) == {
        "package": 1 / 24,
        "node": 6 / 24,
        "supernode": 16 / 24,
    }
    assert parts(machine(), 7) == {"pod": 6 / 7}


def test_one_rank_sends_nothing() -> None:
    for held in (machine(), load_machine("numpy")):
        found = transfer_time(held, 1, 100, 1e6)
        assert (found.duration, found.wire_bytes, found.messages) == (0, 0, 0)
        assert all_reduce_time(held, 1, 1e6).duration == 0
        assert all_gather_time(held, 1, 1e6).duration == 0


def test_ranks_beyond_the_last_domain_are_an_error() -> None:
    with pytest.raises(UserError) as caught:
        transfer_time(machine(), 9, 1, 1)
    assert caught.value.code == "cost.reach"
    assert "at most 8 ranks" in str(caught.value)


# ---- protocols --------------------------------------------------------------------------------


def test_a_link_without_protocols_has_its_latency_and_fraction() -> None:
    # 1 MB, half of it to the other rank: 0.5 MB at 100 GB/s x 0.5.
    found = transfer_time(machine(), 2, 1, MB)
    assert found.duration / US == pytest.approx(LAUNCH + 1 + 10)
    assert found.protocols == {"node": "link"}
    assert found.wire_bytes == 0.5 * MB
    assert "no protocol over node has known figures: the bare link's are taken" in found.notes
    assert "parameters.link_fraction" in found.figures


def test_small_transfers_are_stored_and_large_ones_copied() -> None:
    small, large = (transfer_time(machine(), 8, 8, size) for size in (0.08 * MB, 8 * MB))
    assert small.protocols["pod"] == "load_store" and large.protocols["pod"] == "dma"
    assert small.duration / US == pytest.approx(LAUNCH + 2 + 0.06 * MB / 20e9 / US)
    assert large.duration / US == pytest.approx(LAUNCH + 12 + 6 * MB / 40e9 / US)
    assert "domains.pod.protocols.dma.write_bandwidth" in large.figures
    assert "domains.pod.protocols.load_store.write_bandwidth" not in large.figures


def test_the_crossover() -> None:
    outer = machine().domains[1]
    size = crossover(outer)
    assert size == pytest.approx(10e-6 / (1 / 20e9 - 1 / 40e9))  # 400 KB
    held = pod(**outer.protocols)
    below, above = (transfer_time(held, 8, 8, 8 / 6 * size * x) for x in (0.99, 1.01))
    assert (below.protocols["pod"], above.protocols["pod"]) == ("load_store", "dma")
    assert crossover(machine().domains[0]) is None


def test_a_copy_engine_may_hide_its_start() -> None:
    held = pod(dma=protocol("dma", 3e-6, 40e9, form="max"))
    # Six peers, a packed message each: 3 us, or the bytes if they take longer.
    assert micros(held, 8, 1000, 0.008 * MB) == pytest.approx(LAUNCH + 6 * 3)
    assert micros(held, 8, 1000, 8 * MB) == pytest.approx(LAUNCH + 6 * MB / 40e9 / US)


def test_posting_messages_takes_time() -> None:
    held = pod(rdma=protocol("rdma", 1e-6, 40e9, issue=figure(2e-6)))
    assert micros(held, 8, 1000, 0) == pytest.approx(LAUNCH + 1 + 6 * 2)  # one for each peer
    cores = protocol("load_store", 1e-6, 40e9, issue=figure(1e-7))
    assert micros(pod(load_store=cores), 8, 1000, 0) == pytest.approx(LAUNCH + 1 + 750 * 0.1)
    many = replace(cores, engine="vec", engine_cores=figure(10))
    assert micros(pod(load_store=many), 8, 1000, 0) == pytest.approx(LAUNCH + 1 + 75 * 0.1)


def test_an_unknown_protocol_is_not_chosen() -> None:
    held = pod(load_store=protocol("load_store", 1e-9, None), dma=protocol("dma", 5e-6, 40e9))
    assert transfer_time(held, 8, 8, MB).protocols["pod"] == "dma"


def test_an_unknown_latency_is_that_of_the_next_domain() -> None:
    node, outer = machine().domains
    held = replace(machine(), domains=(replace(node, latency=figure(None)), outer))
    found = transfer_time(held, 2, 1, MB)
    assert found.duration / US == pytest.approx(LAUNCH + 2 + 10)
    assert "the latency of node is unknown: that of pod is taken" in found.notes


def test_links_of_their_own_work_side_by_side() -> None:
    found = transfer_time(machine(), 8, 8, 8 * MB)
    assert found.busy == pytest.approx({"node": MB / 50e9, "pod": 6 * MB / 40e9})
    assert found.bound == "pod"
    assert found.duration / US == pytest.approx(LAUNCH + 12 + 150)


def test_domains_of_one_bandwidth_share_their_ports() -> None:
    node, outer = machine().domains
    held = replace(machine(), domains=(replace(node, bandwidth=figure(50e9)), outer))
    assert micros(held, 8, 8, 8 * MB) == pytest.approx(LAUNCH + 12 + 150 + MB / 25e9 / US)


# ---- the fused expert kernels -----------------------------------------------------------------


def test_a_fused_kernel_has_its_own_figures() -> None:
    held = pod(dispatch=protocol("dispatch", 30e-6, 25e9))
    found = transfer_time(held, 8, 8, MB, "dispatch")
    assert found.duration / US == pytest.approx(30 + 40)  # all copies count, no launch besides
    assert (found.launch, found.protocols) == (0, {"pod": "dispatch"})
    assert micros(held, 8, 8, MB) != pytest.approx(30 + 40)
    inner = transfer_time(held, 2, 8, MB, "dispatch")
    assert inner.duration == found.duration
    assert "dispatch over node as the fit over pod says" in inner.notes


def test_an_unknown_bandwidth_of_a_fused_kernel_is_the_links() -> None:
    held = pod(combine=protocol("combine", 30e-6, None))
    found = transfer_time(held, 8, 8, MB, "combine")
    assert found.duration / US == pytest.approx(30 + 40)  # 50 GB/s x 0.5
    assert any("the bandwidth of combine over pod is unknown" in note for note in found.notes)


def test_beyond_the_server_only_what_leaves_it_counts() -> None:
    # 3 of 4 copies leave an H200's server of 8 at EP 32: 25 us + 0.75 x 8 MB / 48 GB/s.
    found = transfer_time(load_machine("h200"), 32, 1000, 8 * MB, "dispatch")
    assert found.duration / US == pytest.approx(25 + 0.75 * 8 * MB / 48e9 / US)
    assert found.protocols == {"node": "dispatch", "scale_out": "dispatch"}
    assert found.bound == "scale_out"


# ---- all-reduce -------------------------------------------------------------------------------


def test_small_sums_go_at_once_and_large_ones_around() -> None:
    small, large = all_reduce_time(machine(), 8, 1000), all_reduce_time(machine(), 8, 80 * MB)
    assert small.duration / US == pytest.approx(LAUNCH + 2 + 7 * 1000 / 20e9 / US)
    assert small.messages == 7 and small.wire_bytes == 7000
    assert large.duration / US == pytest.approx(LAUNCH + 14 * (12 + 10 * MB / 40e9 / US))
    assert large.messages == 14 and large.wire_bytes == 140 * MB


def test_parts_go_to_all_at_once_or_around() -> None:
    """Each of 8 ranks has an eighth: 7 parts are sent either way, the start is paid once or 7 x."""
    small, large = all_gather_time(machine(), 8, 1000), all_gather_time(machine(), 8, 80 * MB)
    assert small.duration / US == pytest.approx(LAUNCH + 2 + 7 * 125 / 20e9 / US)
    assert small.messages == 7 and small.wire_bytes == 7 * 125
    assert large.duration / US == pytest.approx(LAUNCH + 12 + 70 * MB / 40e9 / US)
    assert large.messages == 7 and large.wire_bytes == 70 * MB


# ---- what must hold ---------------------------------------------------------------------------

RANKS = st.sampled_from([1, 2, 3, 8])
SIZES = st.floats(1, 1e8)
OPERATIONS = st.sampled_from(["all_to_all", "dispatch", "combine"])


@given(RANKS, st.integers(1, 1000), SIZES, SIZES)
def test_more_bytes_never_take_less(ranks: int, messages: int, a: float, b: float) -> None:
    few, many = (micros(machine(), ranks, messages, size) for size in sorted((a, b)))
    assert few <= many


@given(RANKS, SIZES, SIZES)
def test_a_larger_sum_never_takes_less(ranks: int, a: float, b: float) -> None:
    few, many = (all_reduce_time(machine(), ranks, size).duration for size in sorted((a, b)))
    assert few <= many
    assert (
        all_gather_time(machine(), ranks, a).duration
        <= all_reduce_time(machine(), ranks, a).duration
    )


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(machine_names()), OPERATIONS, st.integers(0, 20), SIZES)
def test_arrays_equal_scalars(name: str, operation: str, messages: int, size: float) -> None:
    held = MACHINES[name]
    ranks = [n for n in (1, 2, 7, 8, 24, 256) if n == 1 or held.domains]
    swept = transfer_time(held, np.array(ranks), messages, size, operation)
    points = [transfer_time(held, n, messages, size, operation) for n in ranks]
    assert_same(swept, points)
    assert_same(
        all_reduce_time(held, np.array(ranks), size),
        [all_reduce_time(held, n, size) for n in ranks],
    )
    assert_same(
        all_gather_time(held, np.array(ranks), size),
        [all_gather_time(held, n, size) for n in ranks],
    )


def assert_same(swept: LinkTime, points: list[LinkTime]) -> None:
    for field in ("duration", "wire_bytes", "messages"):
        found = np.broadcast_to(getattr(swept, field), len(points)).tolist()
        assert found == pytest.approx([getattr(one, field) for one in points])


@pytest.mark.parametrize("operation", [all_reduce_time, all_gather_time])
def test_one_rank_has_nobody_to_send_to(operation: Any) -> None:
    found = operation(machine(), 1, 1e6)
    assert (found.duration, found.wire_bytes, found.messages) == (0, 0, 0)
    assert (found.busy, found.protocols, found.bound) == ({}, {}, "launch")
