"""Routes by hand on the machine of round numbers, and what must hold for any of them.

Two devices share a node (100 GB/s, 1 us), eight the pod (50 GB/s; load/store 2 us and 20 GB/s,
copy engine 12 us and 40 GB/s). HBM moves 1 TB/s, of which 0.8 are reached. A launch is 10 us.
"""

from dataclasses import replace

import numpy as np
import pytest
from cost_examples import figure, machine, protocol

from supertile.ir.comm_route import route_of
from supertile.ir.errors import UserError
from supertile.targets.cost.link import transfer_time
from supertile.targets.cost.route import Exchange, route_time
from supertile.targets.machine import Machine, load_machine

US = 1e-6
LAUNCH = 10
# 8 experts on 8 ranks, 2 choices: a token reaches 2 ranks, and 4 (1 - C(6,2)/C(8,2)) nodes.
EXCHANGE = Exchange("dispatch", 8, 8, 2, 1000, 1.0, row=1000.0, routing=10.0)
NODES = 4 * (1 - 15 / 28)


def micros(text: str, exchange: Exchange = EXCHANGE, held: Machine | None = None) -> float:
    return float(route_time(held or machine(), exchange, route_of(text)).duration / US)


def pod(**protocols) -> Machine:
    node, outer = machine().domains
    return replace(machine(), domains=(node, replace(outer, protocols=protocols)))


def test_direct_by_a_protocol():
    # 2,000 rows of 1,010 B, 6 of 8 over the pod.
    assert micros("direct over pod by load_store") == pytest.approx(LAUNCH + 2 + 1.515e6 / 20e3)
    assert micros("direct over pod by dma") == pytest.approx(LAUNCH + 12 + 1.515e6 / 40e3)


def test_one_copy_for_each_rank():
    # 4 ranks with 2 experts each: 4 (1 - C(6,2)/C(8,2)) ranks instead of 2.
    four = replace(EXCHANGE, ranks=4)
    assert four.distinct() == pytest.approx(1000 * NODES)
    sent = 0.5 * (1000 * NODES * 1000 + 2000 * 10)  # half of the ranks are in the other node
    rebuilt = 2 * (2000 - 1000 * NODES) * 1000 / 0.8e6
    expected = LAUNCH + 12 + sent / 40e3 + rebuilt
    assert micros("direct over pod by dma, deduplicated", four) == pytest.approx(expected)


def test_hierarchical_routes_pay_both_latencies():
    # Over the pod one row a node, 3 of 4 of them; inside the node half of all rows.
    outer = 0.75 * (1000 * NODES * 1000 + 2000 * 10)
    text = "hierarchical over pod by dma, node by link, deduplicated"
    assert micros(text) == pytest.approx(LAUNCH + 12 + 1 + outer / 40e3)
    found = route_time(machine(), EXCHANGE, route_of(text))
    inner = 0.5 * (2000 * 1000 + 2000 * 10)
    assert found.wire_bytes == pytest.approx(outer + inner)
    assert found.busy["node"] == pytest.approx(inner / 50e9)  # half of a bare link is reached


def test_packing_by_node_saves_messages():
    held = pod(rdma=protocol("rdma", 1e-6, 40e9, issue=figure(5e-6)))
    direct = micros("direct over pod by rdma", held=held)
    packed = micros("hierarchical over pod by rdma, node by link", held=held)
    assert direct == pytest.approx(LAUNCH + 1 + 6 * 5 + 1.515e6 / 40e3)  # six ranks in other nodes
    assert packed == pytest.approx(LAUNCH + 1 + 1 + 3 * 5 + 1.515e6 / 40e3)  # three other nodes


def test_messages_that_each_pay_the_latency():
    held = pod(dma=protocol("dma", 3e-6, 40e9, form="each"))
    assert micros("direct over pod by dma", held=held) == pytest.approx(
        LAUNCH + 6 * 3 + 1.515e6 / 40e3
    )


def test_padded_routes_send_all_to_all():
    held = pod(collective=protocol("collective", 2e-6, 40e9))
    node = replace(held.domains[0], protocols=held.domains[1].protocols)
    held = replace(held, domains=(node, held.domains[1]))
    size = 0.75 * 1000 * 8 * (1000 + 2 * 10)
    text = "padded over pod by collective, node by collective, deduplicated"
    assert micros(text, held=held) == pytest.approx(LAUNCH + 2 + size / 40e3)


def test_the_fused_kernel_is_the_transfer_of_its_fit():
    held = pod(dispatch=protocol("dispatch", 30e-6, 25e9))
    plain = transfer_time(held, 8, EXCHANGE.copies, EXCHANGE.copies * 1010.0, "dispatch")
    assert micros("direct over pod by fused", held=held) == pytest.approx(plain.duration / US)
    assert micros("direct over pod by fused", held=held) == pytest.approx(30 + 2.02e6 / 25e3)


def test_other_routes_pay_the_start_up_of_the_fused_kernel():
    fits = dict(machine().domains[1].protocols, dispatch=protocol("dispatch", 30e-6, 25e9))
    found = micros("direct over pod by dma", held=pod(**fits))
    assert found == pytest.approx(30 + 12 + 1.515e6 / 40e3)


def test_an_unknown_start_up_is_a_launch_and_a_message():
    fits = dict(machine().domains[1].protocols, dispatch=protocol("dispatch", None, 25e9))
    held = pod(**fits)
    found = route_time(held, EXCHANGE, route_of("direct over pod by fused"))
    assert found.duration / US == pytest.approx(LAUNCH + 2 + 2.02e6 / 25e3)
    assert any("start-up of dispatch over pod is unknown" in note for note in found.notes)


def test_links_further_out_carry_everything_that_leaves_a_rank():
    held = load_machine("ascend-910c")
    exchange = replace(EXCHANGE, ranks=8)
    found = route_time(held, exchange, route_of("direct over scale_out by rdma"))
    assert set(found.busy) == {"scale_out"}
    issue, rate = 7 * 2e-6, 24e9
    assert found.busy["scale_out"] == pytest.approx(issue + 7 / 8 * 2.02e6 / rate)


def test_rows_that_were_counted_replace_expected_ones():
    counted = replace(EXCHANGE, counted={1: 700.0, 2: 600.0})
    assert counted.distinct() * (1 - 1 / 8) == pytest.approx(700)
    assert counted.distinct(2) * (1 - 2 / 8) == pytest.approx(600)


@pytest.mark.parametrize(
    "text",
    [
        "direct over node by link",  # does not reach
        "direct over moon by link",
        "direct over pod by rdma",  # the file has none
        "direct over pod by fused",
    ],
)
def test_a_route_that_the_machine_lacks(text):
    with pytest.raises(UserError, match="is none for 8 ranks on round") as caught:
        micros(text)
    assert caught.value.code == "cost.route"


ROUTES = [
    "direct over supernode by fused, deduplicated",
    "direct over supernode by dma",
    "direct over scale_out by rdma",
    "hierarchical over supernode by dma, node by fused",
]


@pytest.mark.parametrize("text", ROUTES)
def test_arrays_equal_scalars(text):
    held, tokens = load_machine("ascend-910c"), np.array([1.0, 64.0, 4096.0])
    exchange = Exchange("dispatch", 384, 384, 6, tokens, np.array([2.4, 1.15, 1.02]), 7224, 12)
    swept = route_time(held, exchange, route_of(text))
    for point in range(3):
        one = replace(exchange, tokens=tokens[point], tail=exchange.tail[point])
        single = route_time(held, one, route_of(text))
        assert swept.duration[point] == pytest.approx(single.duration)
        assert swept.messages[point] == pytest.approx(single.messages)
