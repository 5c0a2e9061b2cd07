"""The rules that every group keeps, and what all fusions together find in every model."""

from collections import Counter

import numpy as np
import pytest
from fusion_checks import (
    CONFIGS,
    FUSIONS,
    NUMERICS,
    ROOT,
    apply,
    fused_of,
    graph_of,
    groups_of,
    in_dataflow_order,
    kinds_in,
    outside_of,
)
from pass_checks import module_of, text_of

from supertile.ir import graph
from supertile.ir.locations import name_of
from supertile.ir.text import context
from supertile.ir.verify import verify_module
from supertile.passes.fusing import Pattern, fuse, unfuse
from supertile.runtime.checkpoint import Checkpoint
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.generate import Generator, Request
from supertile.runtime.plan import plan_module
from supertile.runtime.weights import Weights

ALL = [(config, numerics) for config in CONFIGS for numerics in NUMERICS]

# ---- what is found in the models ---------------------------------------------------------------

V4_LAYER = """mixing query_norm_rope key_norm_rope attention join
              mixing router experts shared_expert join """
CSA = "compress compress query_rope index_select"
V3_LAYER = "query_rope key_norm_rope attention add_norm "

# function -> the kinds of its groups; one that several models have is the same in all of them
GROUPS = {
    "deepseek_v4": {
        "logits": "mixing",
        "draft": "mixing",
        "layers_no_entries_hash_router": V4_LAYER,
        "layers_no_entries_score_router": V4_LAYER,
        "layers_hca_hash_router": V4_LAYER + "compress",
        "layers_hca_score_router": V4_LAYER + "compress",
        "layers_csa_hash_router": V4_LAYER + CSA,
        "layers_csa_score_router": V4_LAYER + CSA,
        "mtp_no_entries_score_router": V4_LAYER,
    },
    "deepseek_v3": {
        "logits": "",
        "layers_dense": V3_LAYER + "feed_forward",
        "layers_moe": V3_LAYER + "router experts shared_expert join",
    },
    "llama": {
        "logits": "",
        "layers": "query_rope key_rope attention add_norm feed_forward",
    },
}
# Deployed numerics quantise rows behind norms. A norm without more behind it stays alone.
NORMS = {
    "draft": "norm norm",
    "layers_dense": "norm norm",
    "layers_moe": "norm norm",
    **dict.fromkeys((name for name in GROUPS["deepseek_v4"] if "router" in name), "norm norm norm"),
}

# The ops that are in no group. Of attention, these are the products alone, with the layout of
# their operands; constants are those of several groups.
V4_PRODUCTS = "linear linear linear linear einsum reshape constant constant constant constant "
V3_PRODUCTS = """linear linear linear linear reshape reshape split einsum
                 dequantize split einsum """  # wkv_b is unpacked and split before it is used
ENDS = "gather layers rms_norm linear "
OUTSIDE = {
    "deepseek_v4": {
        "logits": ENDS + "repeat",
        "draft": ENDS + "linear linear reshape add",
        **dict.fromkeys(GROUPS["deepseek_v4"].keys() - {"logits", "draft"}, V4_PRODUCTS),
        # The windows serve both compressors; the products are those of the indexer's query.
        "layers_csa_hash_router": V4_PRODUCTS + "completed_windows linear linear",
        "layers_csa_score_router": V4_PRODUCTS + "completed_windows linear linear",
    },
    "deepseek_v3": {
        "logits": ENDS,
        "layers_dense": V3_PRODUCTS + "add",  # the norm of this add is in the next layer
        "layers_moe": V3_PRODUCTS,
    },
    "llama": {
        "logits": ENDS,
        "layers": "rms_norm linear linear linear linear add",
    },
}


def outside_by_numerics(function, numerics):
    """What the numerics add: norms that nothing follows, or the rounding of attention's result."""
    if numerics == "deployed":
        return "quantize" if function in NORMS and function != "draft" else ""
    norms = NORMS.get(function, "").replace("norm", "rms_norm")
    return norms + (" cast" if function in ("logits", "draft") else "")


@pytest.mark.parametrize(("config", "numerics"), ALL)
def test_the_groups_of_every_model(config, numerics):
    found = groups_of(config, numerics)
    table = GROUPS[CONFIGS[config][0]]
    norms = NORMS if numerics == "deployed" else {}
    assert found == {
        name: Counter(f"{table[name]} {norms.get(name, '')}".split()) for name in found
    }


@pytest.mark.parametrize(("config", "numerics"), ALL)
def test_what_stays_outside_of_groups(config, numerics):
    found = outside_of(config, numerics)
    table = OUTSIDE[CONFIGS[config][0]]
    assert found == {
        name: Counter(f"{table[name]} {outside_by_numerics(name, numerics)}".split())
        for name in found
    }


def test_the_tables_name_no_function_that_no_model_has():
    for model, table in GROUPS.items():
        found = [groups_of(config, "deployed") for config in CONFIGS if CONFIGS[config][0] == model]
        assert set().union(*found) == table.keys() == OUTSIDE[model].keys()


# ---- wrapping loses nothing --------------------------------------------------------------------


# All functions of Flash are among those of the other models.
@pytest.mark.parametrize(("config", "numerics"), [case for case in ALL if case[0] != "flash"])
def test_fused_models_are_sound_and_unfuse_to_what_they_were(config, numerics):
    fused = fused_of(config, numerics)
    verify_module(fused, "fused")
    unfuse(fused)
    verify_module(fused, "graph")
    before = in_dataflow_order(graph_of(config, numerics))
    assert text_of(in_dataflow_order(fused)) == text_of(before)


def test_fusing_again_finds_nothing():
    fused = fused_of("pro", "deployed")
    apply(fused, FUSIONS)
    assert kinds_in(fused) == kinds_in(fused_of("pro", "deployed"))


def test_sizes_that_are_fixed_before_change_nothing():
    module = graph_of("pro", "deployed")
    apply(module, f"specialize{{tokens=4 batch=4 context=256}},{FUSIONS}")
    assert kinds_in(module) == kinds_in(fused_of("pro", "deployed"))


@pytest.mark.parametrize("numerics", NUMERICS)
def test_the_numbers_of_the_small_model_are_equal_to_the_bit(numerics):
    # A chunk that completes windows of both kinds and leaves others open, then token by token.
    request = Request(prompt=18, chunk=18, teacher=True)
    case = ROOT / "tests/data/deepseek_v4_deployed"
    tokens = np.load(case / "io.npz")["input_ids"][:, :24]
    checkpoint = Checkpoint(case / "model.safetensors")

    def generated(module):
        plan = plan_module(module)
        executor = Executor(plan, Weights(checkpoint, plan, list(plan.entries)).get)
        batch, length = tokens.shape
        sessions = [Session(executor, entry, batch, length) for entry in ("logits", "draft")]
        return Generator(*sessions).run(list(tokens), request)

    before = generated(graph_of("small deployed", numerics))
    after = generated(fused_of("small deployed", numerics))
    assert before.logits.tobytes() == after.logits.tobytes()
    assert before.draft.tobytes() == after.draft.tobytes()
    assert np.isfinite(before.logits).any()


# ---- the rules of a group ----------------------------------------------------------------------

F, S = "tensor<?x8xf32>", "tensor<f32>"
EXP_SILU = Pattern("pair", anchor=graph.Exp, users={graph.Exp: (graph.Silu,)})
SUM_OF_EXP = Pattern(
    "sum", anchor=graph.Add, producers={graph.Add: (graph.Exp,), graph.Exp: (graph.Silu,)}
)


def exp(result, x):
    return f"%{result} = graph.exp %{x} : ({F}) -> {F}"


def silu(result, x):
    return f"%{result} = graph.silu %{x} : ({F}) -> {F}"


def add(result, a, b):
    return f"%{result} = graph.add %{a}, %{b} : ({F}, {F}) -> {F}"


def group(kind, results, *ops, inside=None):
    """A fused op with one result or more, all of type F."""
    kinds = [F] * len(results)
    outer, inner = (", ".join(f"%{name}" for name in names) for names in (results, inside))
    return f"""{outer} = graph.fused {{kind = "{kind}"}} : () -> ({", ".join(kinds)}) {{
          {" ".join(ops)}
          graph.yield {inner} : ({", ".join(kinds)}) -> ()
        }}"""


def body(*ops, result="y"):
    return "\n".join([f"(%x: {F}) -> {F}", *ops, f"func.return %{result} : {F}"])


def check_fused(pattern, before, after):
    module = module_of(before)
    fuse(context(), module, [pattern])
    verify_module(module, "fused")
    assert text_of(module) == text_of(module_of(after))


def test_a_group_stands_where_its_last_op_stood_and_yields_what_others_use():
    wrapped = group("pair", ["b"], exp("a", "x"), silu("b_1", "a"), inside=["b_1"])
    check_fused(
        EXP_SILU,
        body(exp("a", "x"), add("c", "x", "x"), silu("b", "a"), add("y", "b", "c")),
        body(add("c", "x", "x"), wrapped, add("y", "b", "c")),
    )


def test_an_op_amid_a_group_that_waits_for_it_comes_behind_it():
    wrapped = group("pair", ["a", "b"], exp("a_1", "x"), silu("b_1", "a_1"), inside=["a_1", "b_1"])
    check_fused(
        EXP_SILU,
        body(
            exp("a", "x"),
            add("c", "a", "x"),
            add("d", "c", "a"),
            silu("b", "a"),
            add("y", "b", "d"),
        ),
        body(wrapped, add("c", "a", "x"), add("d", "c", "a"), add("y", "b", "d")),
    )


def test_a_group_that_would_wait_for_itself_is_refused():
    pattern = Pattern("sum", anchor=graph.Exp, users={graph.Exp: (graph.Add,)})
    before = body(exp("a", "x"), silu("b", "a"), add("y", "a", "b"))
    check_fused(pattern, before, before)


def test_a_producer_that_others_use_is_not_pulled_in():
    before = body(silu("s", "x"), exp("e", "s"), add("t", "e", "x"), add("y", "t", "s"))
    wrapped = group("sum", ["t"], exp("e", "s"), add("t_1", "e", "x"), inside=["t_1"])
    check_fused(SUM_OF_EXP, before, body(silu("s", "x"), wrapped, add("y", "t", "s")))


def test_constants_of_one_group_go_inside_and_others_stay():
    pattern = Pattern("scale", anchor=graph.Exp, users={graph.Exp: (graph.Multiply,)})
    module = module_of(
        f"""(%x: {F}) -> {F}
        %c = graph.constant {{value = 2.0 : f64}} : () -> {S}
        %d = graph.constant {{value = 3.0 : f64}} : () -> {S}
        %a = graph.exp %x : ({F}) -> {F}
        %b = graph.multiply %a, %c : ({F}, {S}) -> {F}
        %e = graph.multiply %a, %d : ({F}, {S}) -> {F}
        %y = graph.multiply %e, %d : ({F}, {S}) -> {F}
        %z = graph.add %b, %y : ({F}, {F}) -> {F}
        func.return %z : {F}"""
    )
    fuse(context(), module, [pattern])
    outside = [op.name for op in next(iter(module.ops)).body.block.ops]
    assert outside == [
        "graph.constant", "graph.fused", "graph.multiply", "graph.add", "func.return",
    ]  # fmt: skip


def test_a_group_has_the_location_of_its_anchor():
    module = module_of(body(exp("a", "x") + ' loc("attn.e"("m.st":3:1))', silu("y", "a")))
    fuse(context(), module, [EXP_SILU])
    (fused,) = [op for op in module.walk() if isinstance(op, graph.Fused)]
    assert name_of(fused.location) == "attn.e"
    assert name_of(fused.body.block.last_op.location) == "attn.e"


def test_ops_in_a_group_are_neither_anchors_nor_pulled_in():
    inner = group("other", ["b"], silu("i", "a"), exp("j", "i"), silu("b_1", "j"), inside=["b_1"])
    before = body(exp("a", "x"), inner, add("y", "b", "x"))
    check_fused(EXP_SILU, before, before)


def test_a_group_amid_another_waits_for_what_its_ops_use():
    other = group("other", ["c"], add("c_1", "a", "x"), inside=["c_1"])
    wrapped = group("pair", ["a", "b"], exp("a_1", "x"), silu("b_1", "a_1"), inside=["a_1", "b_1"])
    check_fused(
        EXP_SILU,
        body(exp("a", "x"), other, silu("b", "a"), add("y", "b", "c")),
        body(wrapped, other, add("y", "b", "c")),
    )


# ---- states ------------------------------------------------------------------------------------

ROWS, CALLS = "tensor<?x8xbf16>", "tensor<?xi32>"
STATE = "tensor<?x?x8xbf16>"
VECTORS = f"%sequence: {CALLS}, %position: {CALLS}, %length: {CALLS}"
SIGNATURE = (
    f"func.func @f(%x: {ROWS}, {VECTORS}, %state: {STATE} {{graph.name = "
    '"kept", graph.state = #graph.state<"blocks", "kept", [1]>})'
)


def append(seen, kept, state):
    return f"""%{seen}, %{kept} = graph.append %{state}, %x, %sequence, %position, %length
        {{kind = #graph.state<"blocks", "kept", [1]>}}
        : ({STATE}, {ROWS}, {CALLS}, {CALLS}, {CALLS}) -> ({STATE}, {STATE})"""


def reshape(result, x):
    return f"""%{result} = graph.reshape %{x} {{shape = array<i64: -1, -1, 2, 4>}}
        : ({STATE}) -> tensor<?x?x2x4xbf16>"""


def relu(result, x):
    return f"%{result} = graph.relu %{x} : (tensor<?x?x2x4xbf16>) -> tensor<?x?x2x4xbf16>"


def states(*ops, results):
    kinds = ", ".join(
        STATE if name.startswith("kept") else "tensor<?x?x2x4xbf16>" for name in results
    )
    names = ", ".join(f"%{name}" for name in results)
    return "\n".join([f"{SIGNATURE} -> ({kinds}) {{", *ops, f"func.return {names} : {kinds}", "}"])


def kinds_after(pattern, before):
    module = module_of(before)
    fuse(context(), module, [pattern])
    verify_module(module, "fused")
    return kinds_in(module)


def test_a_state_goes_through_a_group_and_is_used_once():
    view = Pattern("view", anchor=graph.Append, users={graph.Append: (graph.Reshape,)})
    ops = [append("s", "kept", "state"), reshape("r", "s"), append("t", "kept_1", "kept")]
    # The second append takes the state that the group yields; verifying counts the uses.
    assert kinds_after(view, states(*ops, results=["r", "kept_1"])) == ["view"]


@pytest.mark.parametrize("pulled", [(graph.Reshape, graph.Append), (graph.Reshape,)])
def test_what_reads_a_view_does_not_move_past_a_write(pulled):
    # What %y reads holds the rows of the second append, too: both are the same memory.
    reader = Pattern(
        "view", anchor=graph.Relu, producers=dict.fromkeys((graph.Relu, graph.Reshape), pulled)
    )
    ops = [append("s", "kept", "state"), reshape("r", "s"), append("t", "kept_1", "kept")]
    assert kinds_after(reader, states(*ops, relu("y", "r"), results=["y", "kept_1"])) == []


def test_a_write_does_not_move_past_what_reads_a_view():
    # %y must not see the rows of the second append.
    appends = Pattern("appends", anchor=graph.Append, users={graph.Append: (graph.Append,)})
    ops = [append("s", "kept", "state"), reshape("r", "s"), relu("y", "r")]
    ops.append(append("t", "kept_1", "kept"))
    assert kinds_after(appends, states(*ops, results=["y", "kept_1"])) == []
