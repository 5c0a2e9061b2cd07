"""What belongs to the mixing of streams, to a join, and to an add with its norm."""

import pytest
from fusion_checks import CONFIGS, NUMERICS, groups_of, ops_in
from pass_checks import check, check_kept

F = "tensor<?x8xf32>"
MIX = "reshape einsum {}divide {}add rsqrt linear reshape multiply "
HYPER = (
    MIX.format("", "")
    + "split split "
    + "slice multiply add sigmoid add "
    + "slice multiply add sigmoid multiply "
    + "slice multiply add reshape sinkhorn einsum"
)
HEAD = MIX.format("constant ", "constant ") + "multiply add sigmoid add einsum"
JOIN = "reshape reshape multiply einsum add"

V4 = [config for config in CONFIGS if CONFIGS[config][0] == "deepseek_v4"]


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("config", V4)
def test_all_layers_and_entries_of_v4_mix_and_join_alike(config, numerics):
    for function in groups_of(config, numerics):
        is_entry = function in ("logits", "draft")
        mixing = [HEAD] if is_entry else [HYPER, HYPER]
        joins = [] if is_entry else [JOIN, "add " + JOIN]  # the sum of experts and shared expert
        assert ops_in(config, numerics, function, "mixing") == mixing
        assert ops_in(config, numerics, function, "join") == joins


@pytest.mark.parametrize(
    ("config", "numerics", "function", "kind", "ops"),
    [
        ("v3", "reference", "layers_moe", "add_norm", "add rms_norm"),
        ("v3", "deployed", "layers_moe", "add_norm", "add rms_norm quantize"),
        ("v3", "deployed", "layers_moe", "join", "add add"),
        ("v3", "deployed", "layers_dense", "add_norm", "add rms_norm quantize"),
        ("llama", "deployed", "layers", "add_norm", "add rms_norm"),
    ],
)
def test_one_stream_is_added_and_normalised(config, numerics, function, kind, ops):
    assert ops_in(config, numerics, function, kind) == [ops]


def add(result, a, b):
    return f"%{result} = graph.add %{a}, %{b} : ({F}, {F}) -> {F}"


def norm(result, x):
    return f"%{result} = graph.rms_norm %{x} {{eps = 1.0e-06 : f64}} : ({F}) -> {F}"


def body(*ops):
    return "\n".join([f"(%x: {F}, %y: {F}) -> {F}", *ops, f"func.return %z : {F}"])


def test_the_sum_and_its_norm_both_go_on():
    check(
        body(add("r", "x", "y"), norm("n", "r"), add("z", "n", "r")),
        "fuse-residual",
        body(
            f"""%r, %n = graph.fused {{kind = "add_norm"}} : () -> ({F}, {F}) {{
              {add("r_1", "x", "y")}
              {norm("n_1", "r_1")}
              graph.yield %r_1, %n_1 : ({F}, {F}) -> ()
            }}""",
            add("z", "n", "r"),
        ),
    )


def test_a_sum_of_parts_joins_the_add_behind_it():
    check(
        body(add("r", "x", "y"), add("z", "x", "r")),
        "fuse-residual",
        body(
            f"""%z = graph.fused {{kind = "join"}} : () -> {F} {{
              {add("r", "x", "y")}
              {add("z_1", "x", "r")}
              graph.yield %z_1 : ({F}) -> ()
            }}""",
        ),
    )


KEPT = {
    "an add alone": body(add("z", "x", "y")),
    "a norm of something else": body(norm("n", "x"), add("z", "n", "y")),
    "a sum that others use, too": body(
        add("r", "x", "y"), f"%e = graph.exp %r : ({F}) -> {F}", add("z", "e", "r")
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_is_no_group(case):
    check_kept(KEPT[case], "fuse-residual")


def test_an_add_whose_two_sides_need_each_other_is_refused():
    # The first sum must be apart from the second, because %e needs it and the second needs %e.
    wide = "tensor<?x2x8xf32>"
    check_kept(
        f"""(%A: tensor<?x2x2xf32>, %X: {wide}, %p: tensor<?x2x1xf32>) -> {wide}
        %m = graph.einsum %A, %X {{equation = "tij,tid->tjd",
            operandSegmentSizes = array<i32: 2, 0>}} : (tensor<?x2x2xf32>, {wide}) -> {wide}
        %e = graph.exp %m : ({wide}) -> {wide}
        %n = graph.multiply %p, %e : (tensor<?x2x1xf32>, {wide}) -> {wide}
        %y = graph.add %n, %m : ({wide}, {wide}) -> {wide}
        func.return %y : {wide}""",
        "fuse-residual",
    )
