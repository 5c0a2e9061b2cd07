"""Formats of the shipped machines, and that the pass leaves none that a machine lacks."""

import argparse
import re
from dataclasses import replace
from functools import cache

import pytest
from xdsl.dialects.builtin import ModuleOp

from supertile.cli.compile import build
from supertile.ir import graph
from supertile.ir.text import HEADER, parse_module
from supertile.ir.walk import operations
from supertile.passes.driver import Options, run_passes
from supertile.passes.pipeline import parse_pipeline
from supertile.targets.formats import (
    Support,
    computed_formats,
    lacking_formats,
    legalize_options,
    legalize_text,
    stored_formats,
    support_of,
)
from supertile.targets.machine import Machine, load_machine, machine_names

CONFIGS = {
    "deepseek_v4": "deepseek_v4_pro",
    "deepseek_v3": "deepseek_v3",
    "llama": "llama_3_1_8b",
    "qwen3_moe": "qwen3_30b_a3b",
}
CODES = ("deepseek_v4", "deepseek_v3")  # those whose weights are FP8 or FP4
CONVERTING = {"ascend-910c"}  # machines that lack FP8 and FP4
FP8 = "f8E4M3FN, #graph.mx<[1, 128], f8E8M0FNU>"
FP4 = "f4E2M1FN, #graph.mx<[1, 32], f8E8M0FNU>"
FP8_F32 = "f8E4M3FN, #graph.mx<[128, 128], f32>"


@cache
def module(model: str, numerics: str = "deployed") -> ModuleOp:
    asked = {"model": model, "config": CONFIGS[model], "numerics": numerics, "entry": None}
    made, _ = build(argparse.Namespace(**asked))
    run_passes(made, parse_pipeline("canonicalize,cse"))
    return made


@cache
def machine(name: str) -> Machine:
    return load_machine(name)


def with_formats(
    stored: str, computed: str, scaled: str = "", vector: str = "f32", base: str = "h200"
) -> Machine:
    """A machine of other formats; the figures do not matter here."""
    held = machine(base)
    rates = {"matrix": computed.split(), "vector": vector.split()}
    engines = {
        name: replace(one, rate=dict.fromkeys(rates[one.kind], held.devices))
        for name, one in held.engines.items()
        if one.kind in rates
    }
    formats = replace(held.formats, stored=tuple(stored.split()), scaled=tuple(scaled.split()))
    return replace(held, formats=formats, engines=engines)


def linear(x: str, w: str) -> graph.GraphOp:
    """A product of tokens and weights in these formats."""
    kinds = f"tensor<?x128x{x}>", f"tensor<16x128x{w}>"
    text = f"""{HEADER}
        builtin.module {{
          func.func @f(%x: {kinds[0]}, %w: {kinds[1]}) -> tensor<?x16xbf16> {{
            %y = graph.linear %x, %w : ({kinds[0]}, {kinds[1]}) -> tensor<?x16xbf16>
            func.return %y : tensor<?x16xbf16>
          }}
        }}"""
    (function,) = parse_module(text, "test.mlir").ops
    return next(op for op in operations(function) if isinstance(op, graph.Linear))


# ---- options of the pass -----------------------------------------------------------------------


@pytest.mark.parametrize("name", machine_names())
def test_the_pass_reads_the_text_as_the_fields(name):
    (one,) = parse_pipeline(legalize_text(machine(name)))
    fields = {key: getattr(one, key) for key in ("stored", "computed", "to")}
    assert fields == legalize_options(machine(name))
    assert set(fields["stored"]) <= set(machine(name).stored_formats)


def test_ascend_910c_has_int8_and_plain_floats():
    assert stored_formats(machine("ascend-910c")) == ("f32", "bf16", "f16", "i8")
    assert computed_formats(machine("ascend-910c")) == ("bf16", "f16", "i8", "f32")
    assert legalize_options(machine("ascend-910c"))["to"] == "i8"
    assert legalize_options(machine("ascend-910c"), "bf16")["to"] == "bf16"


def test_f32_is_computed_where_the_vector_engine_does():
    assert "f32" not in machine("h200").computed_formats  # tf32 rounds
    assert "f32" in computed_formats(machine("h200"))
    assert "f32" not in computed_formats(with_formats("f32 bf16", "bf16", vector="f16"))


def test_without_int8_codes_become_bf16():
    assert legalize_options(with_formats("f32 bf16", "bf16"))["to"] == "bf16"


# ---- after the pass ----------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["i8", "bf16"])
@pytest.mark.parametrize("name", machine_names())
@pytest.mark.parametrize("model", CONFIGS)
def test_no_op_holds_a_format_that_the_machine_lacks(model, name, to):
    after = module(model).clone()
    if name in CONVERTING and model in CODES:
        assert lacking_formats(after, machine(name))
    options = Options(verify=False)
    (record,) = run_passes(after, parse_pipeline(legalize_text(machine(name), to)), options).passes
    assert bool(record.changed) == (name in CONVERTING and model in CODES)
    assert lacking_formats(after, machine(name)) == []


@pytest.mark.parametrize("model", ["deepseek_v4", "deepseek_v3"])
def test_reference_numerics_keep_no_format_either(model):
    after = module(model, "reference").clone()
    run_passes(after, parse_pipeline(legalize_text(machine("ascend-910c"))))
    assert lacking_formats(after, machine("ascend-910c")) == []


@pytest.mark.parametrize("model", ["deepseek_v4", "deepseek_v3"])
def test_what_the_table_says_is_what_the_pass_does(model):
    """Ops that the table says become INT8 hold it afterwards; the others are as they were."""
    chosen, after = machine("ascend-910c"), module(model).clone()
    run_passes(after, parse_pipeline(legalize_text(chosen)))
    ops = [[op for f in each.ops for op in operations(f)] for each in (module(model), after)]
    for old, new in zip(*ops, strict=True):
        said = "-> i8" in support_of(old, chosen).why
        assert said == ("i8" in re.findall(r"\w+", support_of(new, chosen).formats)), old


def test_the_checker_names_op_and_format():
    found = lacking_formats(module("deepseek_v4"), machine("ascend-910c"))
    assert any("deepseek_v4.st:" in line and "holds f4e2m1" in line for line in found)
    decodes_nothing = with_formats("f32 bf16 f8e4m3 f4e2m1", "i8", vector="f16")
    found = lacking_formats(module("deepseek_v4"), decodes_nothing)
    assert any("multiplies f8e4m3 x f4e2m1" in line for line in found)
    assert not any("holds" in line for line in found)


# ---- one op ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "w", "name", "expected"),
    [
        ("bf16", "bf16", "ascend-910c", Support("bf16 x bf16", "native")),
        ("f32", "f32", "h200", Support("f32 x f32", "native")),
        (FP8, FP8, "h200", Support("f8e4m3 x f8e4m3", "native")),
        (
            FP8,
            FP4,
            "h200",
            Support("f8e4m3 x f4e2m1", "converted", "f4e2m1 decoded to f8e4m3 in the kernel"),
        ),
        (FP8, FP4, "gb200-nvl72", Support("f8e4m3 x f4e2m1", "native")),
        (FP8, FP4, "ascend-950dt", Support("f8e4m3 x f4e2m1", "native")),
        (FP8, FP8_F32, "gb200-nvl72", Support("f8e4m3 x f8e4m3", "native")),
        (
            FP8,
            FP4,
            "ascend-910c",
            Support("f8e4m3 x f4e2m1", "converted", "f8e4m3, f4e2m1 -> i8"),
        ),
        (
            "bf16",
            FP8,
            "ascend-910c",
            Support(
                "bf16 x f8e4m3",
                "converted",
                "f8e4m3 -> i8; i8 decoded to bf16 in the kernel",
            ),
        ),
    ],
)
def test_support_of_a_product(x, w, name, expected):
    assert support_of(linear(x, w), machine(name)) == expected


@pytest.mark.parametrize(
    ("x", "w", "stored", "computed", "why"),
    [
        ("bf16", "bf16", "f32 f16", "f16", "bf16 is not stored"),
        ("bf16", "bf16", "bf16", "f16", "no engine multiplies bf16"),
        (FP8, FP4, "bf16 f8e4m3", "f8e4m3", "neither f4e2m1 nor i8 nor bf16 is stored"),
    ],
)
def test_a_missing_format_says_why(x, w, stored, computed, why):
    found = support_of(linear(x, w), with_formats(stored, computed, vector="f16"))
    assert found.status == "missing"
    assert why in found.why
