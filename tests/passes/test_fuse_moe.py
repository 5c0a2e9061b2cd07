"""What belongs to the router, to the experts, to the shared expert and to a dense layer."""

import pytest
from fusion_checks import apply, kinds_in, ops_in
from pass_checks import check_kept, module_of

HASH, SCORE = "layers_csa_hash_router", "layers_csa_score_router"
SCALED = "take reduce_sum reshape divide multiply"
LIMITED = "minimum silu {0} clamp multiply"

# (config, function, kind) -> the ops of the group, with reference and with deployed numerics
INSIDE = {
    ("pro", HASH, "router"): ("gather linear softplus sqrt " + SCALED,) * 2,
    ("pro", SCORE, "router"): ("linear softplus sqrt add top_k " + SCALED,) * 2,
    ("v3", "layers_moe", "router"): (
        "linear sigmoid add reshape top_k take reduce_sum top_k member reshape select reshape "
        "top_k " + SCALED,
    ) * 2,
    ("pro", SCORE, "experts"): (
        "dispatch grouped_linear " + LIMITED.format("grouped_linear")
        + " reshape multiply grouped_linear combine",
        "dispatch quantize grouped_linear " + LIMITED.format("grouped_linear")
        + " reshape multiply quantize grouped_linear combine",
    ),
    ("v3", "layers_moe", "experts"): (
        "dispatch grouped_linear silu grouped_linear multiply"
        " reshape multiply grouped_linear combine",
        "dispatch quantize grouped_linear silu grouped_linear multiply"
        " reshape multiply quantize grouped_linear combine",
    ),
    # The rows that it reads are quantised by the norm that they come from.
    ("pro", SCORE, "shared_expert"): (
        "linear " + LIMITED.format("linear") + " linear",
        "linear " + LIMITED.format("linear") + " cast quantize linear",
    ),
    ("v3", "layers_moe", "shared_expert"): (
        "linear silu linear multiply linear",
        "linear silu linear multiply quantize linear",
    ),
    ("v3", "layers_dense", "feed_forward"): (
        "linear silu linear multiply linear",
        "linear silu linear multiply quantize linear",
    ),
    ("llama", "layers", "feed_forward"): (
        "linear silu linear multiply linear",
        "linear silu linear multiply cast linear",
    ),
}  # fmt: skip


def without_constants(groups):
    return [" ".join(op for op in ops.split() if op != "constant") for ops in groups]


@pytest.mark.parametrize("case", INSIDE, ids=" ".join)
def test_what_is_in_the_groups_of_the_models(case):
    config, function, kind = case
    found = [ops_in(config, numerics, function, kind) for numerics in ("reference", "deployed")]
    assert [without_constants(groups) for groups in found] == [[ops] for ops in INSIDE[case]]


# ---- small programs ----------------------------------------------------------------------------

F, G, PICKED, CHOSEN = "tensor<?x8xf32>", "tensor<?x16xf32>", "tensor<?x2xf32>", "tensor<?x2xi32>"
SIGNATURE = f"(%x: {F}, %gate: tensor<16x8xf32>, %up: tensor<16x8xf32>, %down: tensor<8x16xf32>)"
GATED = [
    f"%a = graph.linear %x, %gate : ({F}, tensor<16x8xf32>) -> {G}",
    f"%s = graph.silu %a : ({G}) -> {G}",
    f"%b = graph.linear %x, %up : ({F}, tensor<16x8xf32>) -> {G}",
    f"%h = graph.multiply %s, %b : ({G}, {G}) -> {G}",
    f"%y = graph.linear %h, %down : ({G}, tensor<8x16xf32>) -> {F}",
]


def gated(results=("y",)):
    kinds = {"y": F, "h": G, "b": G}
    types = ", ".join(kinds[name] for name in results)
    names = ", ".join(f"%{name}" for name in results)
    return "\n".join([f"{SIGNATURE} -> ({types})", *GATED, f"func.return {names} : {types}"])


def fused_names(text):
    module = module_of(text)
    apply(module, "fuse-moe")
    return kinds_in(module), [op.name for op in next(iter(module.ops)).body.block.ops]


def test_without_experts_beside_it_a_gated_pair_is_a_feed_forward_layer():
    assert fused_names(gated()) == (["feed_forward"], ["graph.fused", "func.return"])


def test_a_gated_value_that_others_use_is_a_result_of_the_group():
    module = module_of(gated(["y", "h"]))
    apply(module, "fuse-moe")
    fused = next(iter(module.ops)).body.block.first_op
    assert [value.name_hint for value in fused.results] == ["h", "y"]


def test_a_product_that_others_use_stays_outside():
    kinds, names = fused_names(gated(["y", "b"]))
    assert (kinds, names) == (["feed_forward"], ["graph.linear", "graph.fused", "func.return"])


def test_a_product_of_what_needs_the_gated_value_is_refused():
    # The last product multiplies the gated rows by %u, which needs them and is in no group.
    square = "tensor<?x?xf32>"
    ops = [
        *GATED[:4],
        f"%u = graph.exp %h : ({G}) -> {G}",
        f"%y = graph.linear %h, %u : ({G}, {G}) -> {square}",
    ]
    text = "\n".join([f"{SIGNATURE} -> {square}", *ops, f"func.return %y : {square}"])
    check_kept(text, "fuse-moe")


def test_scores_that_go_to_no_dispatch_are_no_router():
    check_kept(
        f"""(%x: {F}, %w: tensor<8x8xf32>) -> {PICKED}
        %l = graph.linear %x, %w : ({F}, tensor<8x8xf32>) -> {F}
        %s = graph.sigmoid %l : ({F}) -> {F}
        %c = graph.top_k %s {{k = 2}} : ({F}) -> {CHOSEN}
        %p = graph.take %s, %c : ({F}, {CHOSEN}) -> {PICKED}
        func.return %p : {PICKED}""",
        "fuse-moe",
    )
