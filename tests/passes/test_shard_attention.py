"""Splitting attention: what is cut, where sums are added, which tokens a rank works on."""

from collections import Counter

import pytest
from fusion_checks import FUSIONS, apply, graph_of
from pass_checks import check, check_kept, module_of, text_of

from supertile.ir import comm, graph
from supertile.ir.errors import UserError
from supertile.ir.op import properties_of, shape_of
from supertile.ir.types import f32, type_of

X, VECTOR, CALL = "tensor<?x8xf32>", "tensor<?xf32>", "tensor<?xi32>"
STATE = "tensor<?x?x8xf32>"
SIGNATURE = f'(%x: {X}, %s: {CALL}, %n: {CALL}, %kept: {STATE} {{graph.name = "kept"}}) -> {X}'


def snippet(*lines: str) -> str:
    return "\n".join([SIGNATURE, *lines, f"func.return %y : {X}"])


def weight(name: str, rows: int, columns: int, shard: str = "") -> str:
    kind = f"tensor<{rows}x{columns}xf32>"
    held = f", shard = #comm.shard<{shard}>" if shard else ""
    return f'%{name} = graph.weight {{checkpoint = "{name}"{held}}} : () -> {kind}'


def attention(heads: int, ranks: int = 1) -> list[str]:
    """q = x wq, o = attend(q, kept), y = o wo: keys of one latent state for heads of 8."""
    own, width = heads // ranks, heads // ranks * 8
    wide, split, made = f"tensor<?x{width}xf32>", f"tensor<?x{own}x8xf32>", "%y"
    rows, columns = "", ""
    if ranks > 1:
        rows, columns = (f"axis = {axis}, parts = {ranks}, ranks = {ranks}" for axis in (0, 1))
        made = "%0"  # a part of the sum bears no name
    lines = [
        weight("wq", width, 8, rows),
        f"%a = graph.linear %x, %wq : ({X}, tensor<{width}x8xf32>) -> {wide}",
        f"%q = graph.reshape %a {{shape = array<i64: -1, {own}, 8>}} : ({wide}) -> {split}",
        "%o = graph.attend %q, %kept, %n, %s {operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 1>, "
        "scale = 1.000000e+00 : f64, value_width = 8 : i64} : "
        f"({split}, {STATE}, {CALL}, {CALL}) -> {split}",
        f"%v = graph.reshape %o {{shape = array<i64: -1, {width}>}} : ({split}) -> {wide}",
        weight("wo", 8, width, columns),
        f"{made} = graph.linear %v, %wo : ({wide}, tensor<8x{width}xf32>) -> {X}",
    ]
    if ranks > 1:
        lines.append(f"%y = comm.all_reduce %0 {{ranks = {ranks} : i64}} : ({X}) -> {X}")
    return lines


def test_heads_are_cut_from_their_weights_to_the_sum():
    report = check(snippet(*attention(4)), "shard-attention{ranks=2}", snippet(*attention(4, 2)))
    assert report.passes[0].patterns == {"split": 1}


def test_one_rank_changes_nothing():
    check_kept(snippet(*attention(4)), "shard-attention")


def test_what_has_no_attention_is_kept():
    check_kept(f"(%y: {X}) -> {X}\nfunc.return %y : {X}", "shard-attention{ranks=4}")


@pytest.mark.parametrize(("heads", "ranks", "limit"), [(4, 3, 2), (6, 4, 3), (5, 2, 1)])
def test_heads_that_ranks_do_not_divide(heads, ranks, limit):
    with pytest.raises(UserError) as caught:
        apply(module_of(snippet(*attention(heads))), f"shard-attention{{ranks={ranks}}}")
    assert caught.value.code == "shard.slices"
    assert f"tp={limit}, the most" in str(caught.value)


def test_an_op_that_mixes_heads_is_named():
    lines = attention(4)
    lines.insert(4, "%m = graph.softmax %t : (tensor<?x8x4xf32>) -> tensor<?x8x4xf32>")
    lines.insert(
        4,
        "%t = graph.transpose %o {permutation = array<i64: 0, 2, 1>} : "
        "(tensor<?x4x8xf32>) -> tensor<?x8x4xf32>",
    )
    with pytest.raises(UserError) as caught:
        apply(module_of(snippet(*lines)), "shard-attention{ranks=2}")
    assert caught.value.code == "shard.blocked"
    assert "graph.softmax" in str(caught.value)


# ---- sums ----------------------------------------------------------------------------------------

GATED = f"""(%x: {X}) -> {X}
%up = graph.weight {{checkpoint = "up"}} : () -> tensor<6x8xf32>
%down = graph.weight {{checkpoint = "down"}} : () -> tensor<8x6xf32>
%a = graph.linear %x, %up : ({X}, tensor<6x8xf32>) -> tensor<?x6xf32>
%b = graph.silu %a : (tensor<?x6xf32>) -> tensor<?x6xf32>
%y = graph.linear %b, %down : (tensor<?x6xf32>, tensor<8x6xf32>) -> tensor<?x8xbf16>
%z = graph.add %x, %y : ({X}, tensor<?x8xbf16>) -> {X}
func.return %z : {X}"""


def test_parts_of_a_sum_are_not_rounded_and_the_sum_is():
    module = module_of(GATED)
    apply(module, "shard-attention{ranks=3}")
    (total,) = [op for op in module.walk() if isinstance(op, comm.AllReduce)]
    assert type_of(total.x).element_type == f32
    assert str(type_of(total.result)) == "tensor<?x8xbf16>"
    assert total.result.name_hint == "y" and total.x.name_hint is None


def test_what_no_rank_can_share_stays_whole():
    """The values are returned: nothing sums over them."""
    kept = f"""(%x: {X}) -> {X}
%b = graph.silu %x : ({X}) -> {X}
func.return %b : {X}"""
    check_kept(kept, "shard-attention{ranks=2}")


# ---- models --------------------------------------------------------------------------------------


def split_of(config: str, options: str, numerics: str = "deployed") -> dict[str, graph.GraphOp]:
    module = graph_of(config, numerics)
    apply(module, f"shard-attention{{{options}}}")
    module.verify()
    return {function.sym_name.data: function for function in module.ops}


def cut_weights(function) -> dict[str, tuple[int, int]]:
    """Weight -> (axis, parts) of those that are cut, without the name of the layer."""
    return {
        op.checkpoint.data.split("}.", 1)[1].removesuffix(".weight"): (
            op.shard.axis,
            op.shard.parts,
        )
        for op in function.walk()
        if isinstance(op, graph.Weight) and op.shard is not None
    }


def collectives(function) -> Counter[str]:
    return Counter(
        op.name.removeprefix("comm.") for op in function.walk() if isinstance(op, comm.CommOp)
    )


def test_heads_of_v4_by_output_groups():
    """The latent keys, the compressors and the indexer are whole on every rank."""
    layer = split_of("pro", "ranks=4")["layers_csa_score_router"]
    assert cut_weights(layer) == {
        "attn.wq_b": (0, 4),
        "attn.wo_a": (0, 4),
        "attn.wo_b": (1, 4),
        "attn.attn_sink": (0, 4),
    }
    assert collectives(layer) == {"all_reduce": 1, "share": 1, "all_gather": 1}


def test_heads_and_the_dense_layers_of_v3():
    functions = split_of("v3", "ranks=8")
    heads = {
        "self_attn.q_b_proj": (0, 8),
        "self_attn.kv_b_proj": (0, 8),
        "self_attn.o_proj": (1, 8),
    }
    widths = {"mlp.gate_proj": (0, 8), "mlp.up_proj": (0, 8), "mlp.down_proj": (1, 8)}
    assert cut_weights(functions["layers_dense"]) == heads | widths
    assert cut_weights(functions["layers_moe"]) == heads
    assert collectives(functions["layers_dense"]) == {"all_reduce": 2}


def test_slices_of_experts_are_added_in_one_sum():
    """Routed and shared experts: one sum of both, of a row for each token."""
    layer = split_of("v3", "ranks=8 experts=slice")["layers_moe"]
    cut = cut_weights(layer)
    for part in ("experts.{e}", "shared_experts"):
        axis = int("{e}" in part)
        assert cut[f"mlp.{part}.gate_proj"] == cut[f"mlp.{part}.up_proj"] == (axis, 8)
        assert cut[f"mlp.{part}.down_proj"] == (axis + 1, 8)
    assert collectives(layer) == {"all_reduce": 2}
    experts = [op for op in layer.walk() if isinstance(op, comm.AllReduce)][1]
    assert isinstance(experts.x.owner, graph.Add)
    assert shape_of(experts.x) == shape_of(experts.result)


@pytest.mark.parametrize(("ranks", "parts"), [(4, 4), (8, 8), (16, 8)])
def test_key_value_heads_of_llama(ranks, parts):
    """Beyond 8 key-value heads neighbours hold the same one."""
    functions = split_of("llama", f"ranks={ranks}")
    cut = cut_weights(functions["layers"])
    assert cut["self_attn.q_proj"] == (0, ranks)
    assert cut["self_attn.k_proj"] == cut["self_attn.v_proj"] == (0, parts)
    assert cut["self_attn.o_proj"] == (1, ranks)
    for name, axis in (("layers", 2), ("logits", 3)):
        function = functions[name]
        states = [
            held.data["graph.shard"] for held in function.arg_attrs if "graph.shard" in held.data
        ]
        assert [(state.axis, state.parts, state.ranks) for state in states] == [
            (axis, parts, ranks)
        ] * 2
    assert [
        shape_of(op.keys[0])[2] for op in functions["layers"].walk() if isinstance(op, graph.Attend)
    ] == [8 // parts]


def test_more_ranks_than_blocks_of_codes():
    """The dense layers of V3 are 144 blocks of 128 wide: 16 ranks share them, 32 do not."""
    split_of("v3", "ranks=16")
    with pytest.raises(
        UserError, match=r"gate_proj .* cannot be cut into 32 equal slices"
    ) as caught:
        split_of("v3", "ranks=32")
    assert "tp=16, the most" in str(caught.value)


def test_plain_numbers_have_no_blocks():
    assert split_of("v3", "ranks=128", "reference")


# ---- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["layers_csa_hash_router", "layers_hca_score_router"])
def test_router_and_experts_work_on_a_share(name):
    """What others give the region enters by a share, and one value leaves it."""
    function = split_of("small", "ranks=2", "reference")[name]
    ops = list(function.body.block.ops)
    shares = [op for op in ops if isinstance(op, comm.Share)]
    (gather,) = [op for op in ops if isinstance(op, comm.AllGather)]
    assert {op.x.name_hint for op in shares} == {"ffn_in"} | ({"ids"} if "hash" in name else set())
    assert gather.result.name_hint == "ffn_out" and gather.like.name_hint == "ffn_in"
    tokens = gather.like
    assert all(isinstance(use.operation, comm.Share | comm.AllGather) for use in tokens.uses), (
        "the router, the experts and the shared expert have the share"
    )


def test_rows_of_a_share_are_known_at_run_time_only():
    """Whether the tokens are fixed before or after."""
    texts = set()
    for pipeline in ("specialize{tokens=6},SHARD", "SHARD,specialize{tokens=6}"):
        module = graph_of("small", "reference")
        apply(module, pipeline.replace("SHARD", "shard-attention{ranks=2},plan-experts{ranks=4}"))
        module.verify()
        texts.add(text_of(module))
    assert len(texts) == 1


def test_groups_of_ops_are_those_of_one_rank_and_collectives_stay_outside():
    kinds = []
    for pipeline in ("", "shard-attention{ranks=2},plan-experts{ranks=4},"):
        module = graph_of("small", "reference")
        apply(module, f"{pipeline}{FUSIONS}")
        groups = [op for op in module.walk() if isinstance(op, graph.Fused)]
        assert not any(isinstance(op, comm.CommOp) for held in groups for op in held.walk())
        kinds.append(Counter(held.kind.data for held in groups))
    assert kinds[0] == kinds[1]


def test_options_say_how_experts_are_shared():
    module = graph_of("v3", "deployed")
    apply(module, "shard-attention{ranks=2 experts=share}")
    share = next(op for op in module.walk() if isinstance(op, comm.Share))
    assert properties_of(share) == {"ranks": 2}
