"""Routes by text: what reads back, what is none, and how they stand in IR."""

import pytest
from hypothesis import given, strategies as st
from xdsl.utils.exceptions import ParseError

from supertile.ir import comm
from supertile.ir.comm_route import ALGORITHMS, PROTOCOLS, Hop, Route, RouteAttr, route_of
from supertile.ir.text import HEADER, parse_module, print_module

TEXTS = [
    "direct over supernode by fused",
    "direct over scale_out by rdma, node by fused, deduplicated",
    "hierarchical over scale_out by rdma, node by load_store",
    "padded over cabinet by collective, deduplicated",
]
WRONG = {
    "": "expected direct",
    "direct": "expected direct",
    "direct over supernode": "expected direct",
    "straight over supernode by dma": "expected one of direct, hierarchical, padded",
    "direct over supernode by pigeon": "expected a protocol of fused",
    "direct over node by dma, node by dma": "each once",
    "direct over deduplicated": "expected direct",
    "hierarchical over supernode by dma": "two hops, found 1",
    "padded over cabinet by collective": "is deduplicated",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_route_reads_back(text):
    assert str(route_of(text)) == text


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_route(text):
    with pytest.raises(ValueError, match=WRONG[text]):
        route_of(text)


HOPS = st.builds(
    Hop, st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True), st.sampled_from(PROTOCOLS)
)


@given(st.sampled_from(ALGORITHMS), st.lists(HOPS, min_size=1, max_size=4), st.booleans())
def test_every_route_reads_back(algorithm, hops, deduplicated):
    try:
        route = Route(algorithm, tuple(hops), deduplicated)
    except ValueError:
        return
    assert route_of(str(route)) == route


def module_text(route: str) -> str:
    x, chosen, origin = "tensor<?x8xf32>", "tensor<?x2xi32>", "tensor<?x2xi32>"
    signature = f"%x: {x}, %o: {origin}, %c: {chosen}"
    op = f"%y = comm.combine %x, %o, %c {{route = #comm.route<{route}>}}"
    body = f"{op} : ({x}, {origin}, {chosen}) -> {x}\nfunc.return %y : {x}"
    return f"{HEADER}\nbuiltin.module {{\nfunc.func @f({signature}) -> {x} {{\n{body}\n}}\n}}\n"


@pytest.mark.parametrize("text", TEXTS)
def test_a_route_in_ir(text):
    module = parse_module(module_text(text), "test.mlir")
    op = next(op for op in module.walk() if isinstance(op, comm.Combine))
    assert op.route == RouteAttr.of(route_of(text))
    assert f"route = #comm.route<{text}>" in print_module(module)


def test_a_wrong_route_in_ir_is_said_at_its_place():
    with pytest.raises(Exception, match="expected a protocol of") as caught:
        parse_module(module_text("direct over node by pigeon"), "test.mlir")
    assert isinstance(caught.value, ParseError) or hasattr(caught.value, "code")
