"""What legalize-formats converts, what it leaves, what it refuses, and that the result runs."""

import argparse
from functools import cache

import numpy as np
import pytest
from pass_checks import check, check_kept, module_of, run, text_of
from xdsl.dialects.builtin import ModuleOp

from supertile.cli.formats import format_effect
from supertile.cli.numerics import small_module
from supertile.ir.errors import UserError
from supertile.ir.text import parse_module, print_module
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import parse_pipeline

# As a machine without FP8 and FP4 has it, such as Ascend 910C.
HAS = "stored=f32,bf16,f16,i8 computed=bf16,f16,i8,f32"
TO_I8 = f"legalize-formats{{{HAS}}}"
TO_BF16 = f"legalize-formats{{{HAS} to=bf16}}"

X, Y = "tensor<?x64xbf16>", "tensor<?x16xbf16>"
FP8 = "tensor<?x64xf8E4M3FN, #graph.mx<[1, 32], f8E8M0FNU>>"
TOKENS = "tensor<?x64xi8, #graph.mx<[1, 64], f32>>"  # one scale for each token
BLOCKS = "tensor<?x64xi8, #graph.mx<[1, 32], f32>>"  # one for each block, as before
FP4_W = "tensor<16x64xf4E2M1FN, #graph.mx<[1, 32], f8E8M0FNU>>"
FP8_W = "tensor<16x64xf8E4M3FN, #graph.mx<[16, 32], f8E8M0FNU>>"
I8_W = "tensor<16x64xi8, #graph.mx<[1, 64], f32>>"
BF16_W = "tensor<16x64xbf16>"


def product(codes: str, weight: str, stored: str = "", quantized: str = "") -> str:
    """y = linear(quantize(x), w); `quantized` in place of the quantisation."""
    held = f'{{checkpoint = "w", stored = {stored}}}' if stored else '{checkpoint = "w"}'
    line = quantized or f"%q = graph.quantize %x : ({X}) -> {codes}"
    used = "%q" if line.strip().startswith("%q") else "%x"
    return f"""(%x: {X}) -> {Y}
        %w = graph.weight {held} : () -> {weight}
        {line if used == "%q" else ""}
        %y = graph.linear {used}, %w : ({codes}, {weight}) -> {Y}
        func.return %y : {Y}"""


def cached(codes: str) -> str:
    return f"""(%x: {X}) -> {X}
        %q = graph.quantize %x : ({X}) -> {codes}
        %y = graph.dequantize %q : ({codes}) -> {X}
        func.return %y : {X}"""


# ---- what changes ------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [FP4_W, FP8_W])
def test_a_product_becomes_int8_by_token_and_channel(weight):
    report = check(product(FP8, weight), TO_I8, product(TOKENS, I8_W, stored=weight))
    assert report.passes[0].patterns == {"convert a weight": 1, "quantise tokens": 1}


@pytest.mark.parametrize("weight", [FP4_W, FP8_W])
def test_a_product_becomes_bf16(weight):
    after = product(X, BF16_W, stored=weight, quantized="none")
    check(product(FP8, weight), TO_BF16, after)


def test_experts_have_a_scale_for_each_channel_of_each():
    fp4 = "tensor<4x16x64xf4E2M1FN, #graph.mx<[1, 1, 32], f8E8M0FNU>>"
    int8 = "tensor<4x16x64xi8, #graph.mx<[1, 1, 64], f32>>"

    def grouped(codes: str, weight: str, held: str) -> str:
        return f"""(%x: {X}, %n: tensor<4xi32>) -> {Y}
            %w = graph.weight {held} : () -> {weight}
            %q = graph.quantize %x : ({X}) -> {codes}
            %y = graph.grouped_linear %q, %w, %n : ({codes}, {weight}, tensor<4xi32>) -> {Y}
            func.return %y : {Y}"""

    name = 'checkpoint = "{e}.w"'
    before = grouped(FP8, fp4, f"{{{name}}}")
    check(before, TO_I8, grouped(TOKENS, int8, f"{{{name}, stored = {fp4}}}"))


def test_what_a_cache_holds_keeps_its_blocks():
    report = check(cached(FP8), TO_I8, cached(BLOCKS))
    assert report.passes[0].patterns == {"quantise blocks": 1}


def test_in_bf16_nothing_is_cached_in_codes():
    check(cached(FP8), TO_BF16, f"(%x: {X}) -> {X}\n func.return %x : {X}")


def test_a_value_that_is_left_out_keeps_its_name_and_is_rounded():
    name, wide = 'loc("q.keys"("a.st":3:4))', "tensor<?x64xf32>"
    module = module_of(f"""(%x: {wide}) -> {X}
        %q = graph.quantize %x : ({wide}) -> {FP8}
        %y = graph.dequantize %q : ({FP8}) -> {X} {name}
        func.return %y : {X}""")
    run_passes(module, parse_pipeline(TO_BF16))
    assert name in print_module(module)
    after = module_of(f"""(%x: {wide}) -> {X}
        %q = graph.cast %x : ({wide}) -> {X}
        %y = graph.cast %q : ({X}) -> {X}
        func.return %y : {X}""")
    assert text_of(module) == text_of(after)


def test_a_weight_that_is_dequantized():
    def plain(weight: str, held: str) -> str:
        return f"""() -> tensor<16x64xf32>
            %w = graph.weight {{checkpoint = "w"{held}}} : () -> {weight}
            %y = graph.dequantize %w : ({weight}) -> tensor<16x64xf32>
            func.return %y : tensor<16x64xf32>"""

    check(plain(FP8_W, ""), TO_I8, plain(I8_W, f", stored = {FP8_W}"))
    after = plain(BF16_W, f", stored = {FP8_W}").replace("dequantize", "cast")
    check(plain(FP8_W, ""), TO_BF16, after)


def test_groups_pass_on_what_they_yield():
    def group(codes: str, weight: str, held: str) -> str:
        return f"""(%x: {X}) -> {Y}
            %g = graph.fused {{kind = "norm"}} : () -> {codes} {{
              %q = graph.quantize %x : ({X}) -> {codes}
              graph.yield %q : ({codes}) -> ()
            }}
            %w = graph.weight {{checkpoint = "w"{held}}} : () -> {weight}
            %y = graph.linear %g, %w : ({codes}, {weight}) -> {Y}
            func.return %y : {Y}"""

    check(group(FP8, FP4_W, ""), TO_I8, group(TOKENS, I8_W, f", stored = {FP4_W}"))


def test_rows_that_are_sent_to_experts_keep_their_format():
    def sent(codes: str) -> str:
        parts = f"{codes}, tensor<?xf32>, tensor<4xi32>, tensor<?xi32>"
        return f"""(%x: {X}, %c: tensor<?x2xi32>, %g: tensor<?x2xf32>) -> {X}
            %q = graph.quantize %x : ({X}) -> {codes}
            %r, %s, %n, %o = graph.dispatch %q, %c, %g {{experts = 4 : i64}}
              : ({codes}, tensor<?x2xi32>, tensor<?x2xf32>) -> ({parts})
            %y = graph.dequantize %r : ({codes}) -> {X}
            func.return %y : {X}"""

    check(sent(FP8), TO_I8, sent(BLOCKS))


def test_operands_of_a_product_are_converted_together():
    """A machine that has FP8 but not FP4 cannot multiply FP8 tokens by INT8 weights."""
    has = "legalize-formats{stored=f32,bf16,f8e4m3,i8 computed=bf16,f8e4m3,i8}"
    check(product(FP8, FP4_W), has, product(TOKENS, I8_W, stored=FP4_W))
    check_kept(product(FP8, FP8_W), has)
    check_kept(cached(FP8), has)


def test_a_second_run_changes_nothing():
    text, _ = run(product(FP8, FP4_W), TO_I8)
    module = parse_module(text, "test.mlir")
    assert run_passes(module, parse_pipeline(TO_I8)).passes[0].changed == []


# ---- what stays --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        "",
        "{to=bf16}",
        "{stored=f32,bf16,f8e4m3,f4e2m1}",
        "{stored=f32,bf16,f8e4m3,f4e2m1 computed=bf16}",  # kernels decode to bf16
        "{stored=f32,bf16,f8e4m3,f4e2m1 computed=f32}",
    ],
)
def test_what_is_stored_and_can_be_decoded_is_legal(options):
    check_kept(product(FP8, FP4_W), f"legalize-formats{options}")
    check_kept(cached(FP8), f"legalize-formats{options}")


def test_what_is_stored_but_cannot_be_decoded_is_converted():
    has = "legalize-formats{stored=bf16,f8e4m3,f4e2m1,i8 computed=i8 to=i8}"
    check(product(FP8, FP4_W), has, product(TOKENS, I8_W, stored=FP4_W))


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("stored=f32,bf61,i8", "format.unknown"),
        ("computed=f8e8m0", "format.unknown"),
        ("stored=f32,bf16", "format.target"),
        ("stored=bf16,i8 computed=bf16 to=i8", None),
        ("stored=bf16,i8 computed=f8e4m3 to=i8", "format.target"),
        ("stored=f32,i8", "format.left"),
    ],
)
def test_options_that_cannot_be_met(options, code):
    try:
        run(product(FP8, FP4_W), f"legalize-formats{{{options}}}")
    except UserError as error:
        assert error.code == code
    else:
        assert code is None


def test_a_product_that_no_conversion_helps():
    plain = f"""(%x: {X}, %w: {BF16_W}) -> {Y}
        %y = graph.linear %x, %w : ({X}, {BF16_W}) -> {Y}
        func.return %y : {Y}"""
    with pytest.raises(UserError) as error:
        run(plain, "legalize-formats{computed=f16,i8}")
    assert error.value.code == "format.product"
    assert "bf16" in error.value.message


def test_codes_from_outside_are_named():
    given = f"(%q: {FP8}) -> {FP8}\n func.return %q : {FP8}"
    with pytest.raises(UserError) as error:
        run(given, TO_I8)
    assert (error.value.code, error.value.values["format"]) == ("format.left", "f8e4m3")


# ---- what runs ---------------------------------------------------------------------------------

# Largest difference of a logit relative to the largest logit: at most twice what was measured.
EFFECTS = {
    ("deepseek_v4", "i8"): 0.36,
    ("deepseek_v4", "bf16"): 0.34,
    ("deepseek_v3", "i8"): 0.32,
}


@cache
def small(model: str) -> ModuleOp:
    config = "deepseek_v4_pro" if model == "deepseek_v4" else model
    asked = {"model": model, "config": config, "numerics": "deployed", "entry": "logits"}
    module = small_module(argparse.Namespace(**asked))
    run_passes(module, parse_pipeline("canonicalize,cse"))
    return module


@pytest.mark.parametrize(("model", "to"), EFFECTS)
def test_the_small_model_runs_in_the_other_format(model, to):
    before, after = small(model), small(model).clone()
    run_passes(after, parse_pipeline(f"legalize-formats{{{HAS} to={to}}}"))
    assert print_module(parse_module(print_module(after), "again")) == print_module(after)
    effect = format_effect(before, after)
    print(f"{model} in {to}: {effect}")
    assert 0 < effect.relative < EFFECTS[model, to]
    assert 0 < effect.differing < effect.selections / 2
    assert np.isfinite(effect.difference)
