"""Which route is taken, and what is never taken, on the shipped machines."""

import numpy as np
import pytest

from supertile.ir.comm_work import CopyBytes
from supertile.ir.placement import place
from supertile.targets.comm.alternatives import ROUNDS, alternatives, buffer_bytes
from supertile.targets.comm.choice import (
    TIE,
    choice_lines,
    choose,
    exchanges,
    fastest,
    in_other_precision,
    routed_exchanges,
)
from supertile.targets.cost.route import route_time
from supertile.targets.machine import load_machine

PRO = CopyBytes(out=7224, routing=12, back=14336)
MACHINES = ("ascend-910c", "ascend-950dt", "h200", "gb200-nvl72")


def chosen(machine: str, ranks: int, tokens: float) -> dict[str, str]:
    held = load_machine(machine)
    sent = exchanges(PRO, ranks, 384, 6, tokens)
    return {name: str(choose(held, one).best.route) for name, one in sent.items()}


FUSED_910C = "direct over supernode by fused"
FUSED_H200 = "direct over scale_out by fused, node by fused"


def test_one_hop_where_a_token_reaches_as_many_domains_as_ranks() -> None:
    assert chosen("ascend-910c", 384, 96) == {"dispatch": FUSED_910C, "combine": FUSED_910C}
    assert chosen("h200", 384, 64) == {"dispatch": FUSED_H200, "combine": FUSED_H200}


def test_two_hops_between_few_servers() -> None:
    """At EP32 a token reaches 5.6 GPUs but 3.3 servers; results would round otherwise."""
    found = chosen("h200", 32, 128)
    assert found["dispatch"] == "hierarchical over scale_out by fused, node by fused, deduplicated"
    assert found["combine"] == FUSED_H200


def test_two_hops_where_every_message_is_posted() -> None:
    """Beyond the supernode of the 910C RDMA posts a message for each peer: 2 us each."""
    found = chosen("ascend-910c", 8192, 64)
    assert found["dispatch"].startswith("hierarchical over scale_out by rdma, supernode by fused")
    assert found["combine"] == "hierarchical over scale_out by rdma, supernode by fused"


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("ranks", [8, 64, 384, 8192])
def test_what_is_taken_is_fastest_and_rounds_as_the_program_says(machine: str, ranks: int) -> None:
    held = load_machine(machine)
    for exchange in exchanges(PRO, ranks, 384, 6, 64.0).values():
        choice = choose(held, exchange)
        times = [float(one.seconds) for one in choice.held if not one.obstacle]
        assert choice.best.time is not None and not choice.best.obstacle
        assert float(choice.best.seconds) <= min(times) * (1 + TIE)
        again = route_time(held, exchange, choice.best.route)
        assert again.duration == choice.best.time.duration
        if exchange.operation == "combine":
            assert not choice.best.route.deduplicated
            assert all(one.obstacle for one in choice.held if one.route.deduplicated)


def test_combining_sums_is_costed_though_never_taken() -> None:
    exchange = exchanges(PRO, 32, 384, 6, 128.0)["combine"]
    held = alternatives(load_machine("h200"), exchange)
    sums = [one for one in held if one.obstacle == ROUNDS]
    assert sums and all(one.time is not None for one in sums)


def test_a_route_with_unknown_figures_is_listed_without_a_time() -> None:
    exchange = exchanges(PRO, 64, 384, 6, 64.0)["dispatch"]
    unknown = [one for one in alternatives(load_machine("ascend-950dt"), exchange) if not one.time]
    assert str(unknown[0].route) == "direct over cabinet by load_store"
    assert "domains.cabinet.protocols.load_store.write_latency is unknown" in unknown[0].obstacle


def test_large_messages_go_by_the_copy_engine_inside_a_server() -> None:
    """8 dies, 96 tokens: half a megabyte to each, far above load/store's range."""
    assert chosen("ascend-910c", 8, 96)["combine"] == "direct over node by dma"


def test_arrays_choose_as_numbers_do() -> None:
    tokens = np.array([1.0, 16.0, 96.0, 1024.0])
    for machine in MACHINES:
        held = load_machine(machine)
        swept = alternatives(held, exchanges(PRO, 64, 384, 6, tokens)["dispatch"])
        numbers = fastest(swept)
        for point, count in enumerate(tokens):
            one = choose(held, exchanges(PRO, 64, 384, 6, float(count))["dispatch"])
            assert str(swept[numbers[point]].route) == str(one.best.route)


def test_buffers_of_the_published_kernels() -> None:
    """CM384: 225 MiB for dispatch and 420 MiB for combine, 320 ranks of 96 tokens."""
    held = load_machine("ascend-910c")
    sent = exchanges(CopyBytes(7680, 0, 14336), 320, 256, 8, 96)
    found = {
        name: buffer_bytes(held, one, choose(held, one).best.route) / 2**20
        for name, one in sent.items()
    }
    assert found == {"dispatch": pytest.approx(225), "combine": pytest.approx(420)}


def test_the_other_precision_is_costed_beside() -> None:
    held = load_machine("ascend-910c")
    sent = exchanges(PRO, 384, 384, 6, 96.0)
    for name, other, slower in (("dispatch", "bf16", True), ("combine", "f8e4m3", False)):
        choice = choose(held, sent[name])
        format_, seconds = in_other_precision(held, choice, 7168)
        assert (format_, seconds > choice.best.seconds) == (other, slower)


def test_a_known_routing_is_counted() -> None:
    """All tokens of all ranks choose the experts of rank 0: it has everything, the rest nothing."""
    placement, held = place(16, 16), load_machine("h200")
    same = [np.tile([0, 1], (8, 1))] * 16
    found = routed_exchanges(PRO, same, placement, held)["dispatch"]
    assert found.tail == pytest.approx(8)  # rows go to 2 of 16 ranks
    assert found.counted == {1: 15 * 8, 8: pytest.approx(8)}  # ranks of a server share what enters
    even = [np.tile([rank, (rank + 8) % 16], (8, 1)) for rank in range(16)]
    found = routed_exchanges(PRO, even, placement, held)["dispatch"]
    assert (found.tail, found.counted) == (1.0, {1: 8.0, 8: 8.0})
    assert (
        choose(held, found).best.seconds
        < choose(held, exchanges(PRO, 16, 16, 2, 8.0)["dispatch"]).best.seconds
    )


def test_the_choice_in_words() -> None:
    held = load_machine("ascend-910c")
    sent = {name: choose(held, one) for name, one in exchanges(PRO, 384, 384, 6, 96.0).items()}
    lines = choice_lines(held, sent, 7168)
    assert lines[0].startswith(f"dispatch {FUSED_910C}: 100.4 us; next ")
    # 96 tokens of which each reaches a rank with 1 in 64: 1.5 rows on average, 1.92 where any go.
    rows = 1.5 / (1 - (1 - 6 / 384) ** 96)
    told = next(line for line in lines if line.startswith("a message that packs"))
    assert f"{rows:.4g} rows of 7,224 B" in told
    assert "  supernode: load_store at every size, 2.1 us + bytes / 135 GB/s" in "\n".join(lines)
    other = load_machine("ascend-950dt")
    sent = {name: choose(other, one) for name, one in exchanges(PRO, 64, 384, 6, 96.0).items()}
    assert any("no crossover is known" in line for line in choice_lines(other, sent, 7168))
