"""What belongs to a norm or to a rope, and to which of the kinds."""

import pytest
from fusion_checks import apply, kinds_in, ops_in
from pass_checks import check, check_kept, module_of

F, CODES = "tensor<?x8xf32>", "tensor<?x8xf8E4M3FN, #graph.mx<[1, 4], f8E8M0FNU>>"
I32, STATE = "tensor<?xi32>", "tensor<?x?x8xf32>"
ROPE = """#graph.rope<pairs = "interleaved", scaling = "default", dims = 4.0, theta = 10000.0,
    factor = 1.0, original = 0.0, beta_fast = 32.0, beta_slow = 1.0, low_frequency = 1.0,
    high_frequency = 4.0, magnitude = 1.0>"""

NORM = f"%n = graph.rms_norm %x {{eps = 1.0e-06 : f64}} : ({F}) -> {F}"
QUANTIZE = f"%c = graph.quantize %n : ({F}) -> {CODES}"
CODES_OF_N = f"%y = graph.dequantize %c : ({CODES}) -> {F}"


def one(*ops, result="y"):
    return "\n".join([f"(%x: {F}) -> {F}", *ops, f"func.return %{result} : {F}"])


def rope(result, x, position="position"):
    return f"%{result} = graph.rope %{x}, %{position} {{rope = {ROPE}}} : ({F}, {I32}) -> {F}"


# (config, function, kind) -> the ops of each group, with reference and with deployed numerics
CSA = "layers_csa_score_router"
KEPT = "rms_norm rope split {}concat"
INSIDE = {
    ("pro", CSA, "norm"): ([], ["rms_norm quantize"] * 3),
    ("pro", CSA, "query_norm_rope"): (
        ["reshape multiply reduce_sum constant divide add rsqrt reshape multiply rope"],
        ["reshape multiply reduce_sum constant divide add rsqrt reshape multiply rope"],
    ),
    ("pro", CSA, "key_norm_rope"): ([KEPT.format("")], [KEPT.format("quantize dequantize ")]),
    ("pro", CSA, "query_rope"): (["reshape rope"], ["reshape rope hadamard quantize dequantize"]),
    ("pro", "draft", "norm"): ([], ["rms_norm quantize"] * 2),
    ("v3", "layers_moe", "norm"): ([], ["rms_norm quantize"] * 2),
    ("v3", "layers_moe", "query_rope"): (["rope concat"], ["rope concat"]),
    ("v3", "layers_moe", "key_norm_rope"): (
        ["split rms_norm rope concat"],
        ["split rms_norm rope concat"],
    ),
    ("llama", "layers", "query_rope"): (["reshape rope"], ["reshape cast rope"]),
    ("llama", "layers", "key_rope"): (["reshape rope"], ["reshape cast rope"]),
}


@pytest.mark.parametrize("case", INSIDE, ids=" ".join)
def test_what_is_in_the_groups_of_the_models(case):
    config, function, kind = case
    found = [ops_in(config, numerics, function, kind) for numerics in ("reference", "deployed")]
    assert found == list(INSIDE[case])


def test_a_norm_takes_the_rounding_of_its_rows_and_gives_both():
    check(
        one(NORM, f"%e = graph.exp %n : ({F}) -> {F}", QUANTIZE, CODES_OF_N,
            f"%z = graph.add %e, %y : ({F}, {F}) -> {F}", result="z"),
        "fuse-norm",
        one(
            f"""%n, %c = graph.fused {{kind = "norm"}} : () -> ({F}, {CODES}) {{
              {NORM.replace("%n", "%n_1")}
              {QUANTIZE.replace("%n", "%n_1").replace("%c", "%c_1")}
              graph.yield %n_1, %c_1 : ({F}, {CODES}) -> ()
            }}""",
            f"%e = graph.exp %n : ({F}) -> {F}",
            CODES_OF_N,
            f"%z = graph.add %e, %y : ({F}, {F}) -> {F}",
            result="z",
        ),
    )  # fmt: skip


KEPT_ALONE = {
    "a norm with nothing behind it": one(NORM, f"%y = graph.exp %n : ({F}) -> {F}"),
    "a norm of a sum, which the sum takes along": one(
        f"%s = graph.add %x, %x : ({F}, {F}) -> {F}",
        NORM.replace("%x", "%s"), QUANTIZE, CODES_OF_N,
    ),
    "a reciprocal root without a mean of squares": one(
        f"%r = graph.rsqrt %x : ({F}) -> {F}",
        f"%y = graph.multiply %x, %r : ({F}, {F}) -> {F}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT_ALONE)
def test_what_is_no_group(case):
    check_kept(KEPT_ALONE[case], "fuse-norm")


def test_a_turned_row_that_its_other_part_needs_is_refused():
    # The concat needs %e, and %e needs the rope: they cannot stand together without it.
    wide = "tensor<?x16xf32>"
    check_kept(
        f"""(%x: {F}, %position: {I32}) -> {wide}
        {rope("r", "x")}
        %e = graph.exp %r : ({F}) -> {F}
        %y = graph.concat %e, %r {{axis = 1}} : ({F}, {F}) -> {wide}
        func.return %y : {wide}""",
        "fuse-norm",
    )


def test_a_head_norm_needs_no_rope():
    heads, rows = "tensor<?x4x8xf32>", "tensor<?x4xf32>"
    before = module_of(
        f"""(%x: {heads}) -> {heads}
        %c = graph.constant {{value = 8.0 : f64}} : () -> tensor<f32>
        %s = graph.multiply %x, %x : ({heads}, {heads}) -> {heads}
        %t = graph.reduce_sum %s {{axis = 2}} : ({heads}) -> {rows}
        %m = graph.divide %t, %c : ({rows}, tensor<f32>) -> {rows}
        %a = graph.add %m, %c : ({rows}, tensor<f32>) -> {rows}
        %r = graph.rsqrt %a : ({rows}) -> {rows}
        %k = graph.reshape %r {{shape = array<i64: -1, 4, 1>}} : ({rows}) -> tensor<?x4x1xf32>
        %y = graph.multiply %x, %k : ({heads}, tensor<?x4x1xf32>) -> {heads}
        func.return %y : {heads}"""
    )
    apply(before, "fuse-norm")
    assert kinds_in(before) == ["head_norm"]


@pytest.mark.parametrize(("first", "kind"), [(NORM, ["key_norm_rope"]), ("", [])])
def test_keys_are_what_is_appended(first, kind):
    module = module_of(
        f"""func.func @f(%x: {F}, %sequence: {I32}, %position: {I32}, %length: {I32},
            %state: {STATE} {{graph.state = #graph.state<"blocks", "kept", [1]>}})
            -> ({STATE}, {STATE}) {{
        {first}
        {rope("k", "n" if first else "x")}
        %seen, %kept = graph.append %state, %k, %sequence, %position, %length
            {{kind = #graph.state<"blocks", "kept", [1]>}}
            : ({STATE}, {F}, {I32}, {I32}, {I32}) -> ({STATE}, {STATE})
        func.return %seen, %kept : {STATE}, {STATE}
        }}"""
    )
    apply(module, "fuse-norm")
    assert kinds_in(module) == kind
