"""What belongs to attention, to the compression of keys and to the selection of blocks."""

import pytest
from fusion_checks import apply, kinds_in, ops_in
from pass_checks import check_kept, module_of

HCA, CSA = "layers_hca_score_router", "layers_csa_score_router"
NONE = "mtp_no_entries_score_router"
POOL = "linear linear {}pool_windows {}rms_norm rope "
SELECT = "constant multiply einsum relu reshape multiply reduce_sum visible_count top_k"

# (config, function, kind) -> the ops of each group, with reference and with deployed numerics
INSIDE = {
    ("pro", NONE, "attention"): (
        ["append window_index attend rope reshape"],
        ["append window_index attend cast rope reshape"],
    ),
    ("pro", HCA, "attention"): (
        ["append visible_count window_index attend rope reshape"],
        ["append visible_count window_index attend cast rope reshape"],
    ),
    ("pro", CSA, "attention"): (
        ["append window_index attend rope reshape"],
        ["append window_index attend cast rope reshape"],
    ),
    ("pro", HCA, "compress"): (
        [POOL.format("completed_windows ", "") + "split concat append"],
        [POOL.format("completed_windows ", "cast ")
         + "split quantize dequantize concat append"],
    ),
    # Both compressors use the completed windows, so these stay outside.
    ("pro", CSA, "compress"): (
        [POOL.format("", "") + "split concat append", POOL.format("", "") + "append"],
        [POOL.format("", "cast ") + "split quantize dequantize concat append",
         POOL.format("", "cast ") + "hadamard quantize dequantize append"],
    ),
    ("pro", CSA, "index_select"): ([SELECT], [SELECT]),
    ("v3", "layers_dense", "attention"): (["append visible_count attend"],) * 2,
    ("llama", "layers", "attention"): (
        ["append reshape append visible_count attend reshape"],
        ["append reshape cast append visible_count attend reshape cast"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INSIDE, ids=" ".join)
def test_what_is_in_the_groups_of_the_models(case):
    config, function, kind = case
    found = [ops_in(config, numerics, function, kind) for numerics in ("reference", "deployed")]
    assert found == list(INSIDE[case])


# ---- caches and readers ------------------------------------------------------------------------

I32, STATE, Q = "tensor<?xi32>", "tensor<?x?x8xf32>", "tensor<?x2x8xf32>"
KIND = '#graph.state<"blocks", "kept", [1]>'


def program(*ops, results=("o",)):
    kinds = {"o": Q, "p": Q, "seen": STATE, "kept": STATE, "kept_1": STATE}
    types = ", ".join(kinds[name] for name in results)
    return "\n".join(
        [
            f"func.func @f(%q: {Q}, %x: tensor<?x8xf32>, %sequence: {I32}, %position: {I32},",
            f"  %length: {I32}, %state: {STATE} {{graph.state = {KIND}}}) -> ({types}) {{",
            *ops,
            f"func.return {', '.join(f'%{name}' for name in results)} : {types}",
            "}",
        ]
    )


def append(seen, kept, state):
    return f"""%{seen}, %{kept} = graph.append %{state}, %x, %sequence, %position, %length
        {{kind = {KIND}}} : ({STATE}, tensor<?x8xf32>, {I32}, {I32}, {I32}) -> ({STATE}, {STATE})"""


def attend(result, keys):
    return f"""%{result} = graph.attend %q, %{keys}, %visible, %sequence
        {{operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 1>, scale = 1.0 : f64, value_width = 8}}
        : ({Q}, {STATE}, {I32}, {I32}) -> {Q}"""


VISIBLE = f"%visible = graph.visible_count %position {{ratio = 1}} : ({I32}) -> {I32}"


def kinds_after(text):
    module = module_of(text)
    apply(module, "fuse-attention")
    return kinds_in(module), [op.name for op in next(iter(module.ops)).body.block.ops]


def test_what_is_seen_of_a_cache_stays_inside_and_what_is_kept_leaves():
    module = module_of(
        program(
            append("seen", "kept", "state"), VISIBLE, attend("o", "seen"), results=["o", "kept"]
        )
    )
    apply(module, "fuse-attention")
    (fused, _) = next(iter(module.ops)).body.block.ops
    assert [value.name_hint for value in fused.results] == ["kept", "o"]


def test_a_cache_that_two_read_is_in_the_group_of_neither():
    ops = [append("seen", "kept", "state"), VISIBLE, attend("o", "seen"), attend("p", "seen")]
    check_kept(program(*ops, results=["o", "p", "kept"]), "fuse-attention")


def test_a_cache_that_is_written_again_before_it_is_read_is_refused():
    # %o sees the rows of the second append, too: the group cannot end above it, nor below it.
    ops = [append("seen", "kept", "state"), append("again", "kept_1", "kept")]
    text = program(*ops, VISIBLE, attend("o", "seen"), results=["o", "kept_1"])
    check_kept(text, "fuse-attention")


def test_attention_over_what_is_given_takes_its_index_alone():
    text = program(VISIBLE, attend("o", "state"))
    kinds, names = kinds_after(text)
    assert (kinds, names) == (["attention"], ["graph.fused", "func.return"])


def test_the_choice_of_experts_is_no_selection_of_blocks():
    F = "tensor<?x8xf32>"
    check_kept(
        f"""(%x: {F}) -> tensor<?x2xi32>
        %s = graph.sigmoid %x : ({F}) -> {F}
        %y = graph.top_k %s {{k = 2}} : ({F}) -> tensor<?x2xi32>
        func.return %y : tensor<?x2xi32>""",
        "fuse-attention",
    )
