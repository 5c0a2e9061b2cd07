"""The line that compile prints of a change of formats: bytes of the weights, effect on logits."""

import argparse
import re

import pytest

from supertile.cli.compile import build
from supertile.cli.formats import effect_lines, format_effect, weight_bytes
from supertile.cli.main import main
from supertile.cli.numerics import small_module
from supertile.passes.pipeline import parse_pipeline

TO_I8 = "legalize-formats{stored=f32,bf16,f16,i8 computed=bf16,f16,i8,f32}"


def asked(model: str, config: str, numerics: str = "deployed") -> argparse.Namespace:
    return argparse.Namespace(model=model, config=config, numerics=numerics, entry="logits")


def test_bytes_of_released_weights():
    """8.03 billion parameters of Llama 3.1 8B in BF16."""
    module, _ = build(asked("llama", "llama_3_1_8b"))
    assert weight_bytes(module) == pytest.approx(8.03e9 * 2, rel=1e-3)


def test_bytes_of_v3_count_scales():
    """671 billion parameters, nearly all in FP8 with a scale of four bytes for 128 x 128."""
    module, _ = build(asked("deepseek_v3", "deepseek_v3"))
    assert weight_bytes(module) == pytest.approx(673e9, rel=3e-3)


def test_a_module_has_no_effect_on_itself():
    small = small_module(asked("deepseek_v3", "deepseek_v3"))
    effect = format_effect(small, small.clone())
    assert (effect.difference, effect.relative, effect.differing) == (0, 0, 0)
    assert effect.selections > 0


def test_one_line_for_each_conversion():
    options = asked("deepseek_v3", "deepseek_v3")
    module, small = build(options)[0], small_module(options)
    (line,) = effect_lines(parse_pipeline(f"canonicalize,{TO_I8},{TO_I8}"), module, small)
    assert line.startswith("legalize-formats: f8e4m3 -> i8; weights 67")
    assert re.search(r"differ by at most [\d.]+ \(relative 0\.\d+\), \d+ of \d+ selections$", line)


def test_nothing_to_convert_prints_nothing():
    options = asked("llama", "llama_3_1_8b")
    module, small = build(options)[0], small_module(options)
    assert list(effect_lines(parse_pipeline(f"cse,{TO_I8}"), module, small)) == []
    assert list(effect_lines(parse_pipeline("legalize-formats"), module, small)) == []


def test_compile_prints_it_with_check_numerics(capsys):
    command = ["compile", "deepseek_v3", "--config", "deepseek_v3", "--numerics", "deployed"]
    assert main([*command, "-p", f"cse,{TO_I8}", "--check-numerics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("legalize-formats: f8e4m3 -> i8; weights") for line in lines) == 1
    assert any(line.startswith("legalize-formats: convert, largest difference") for line in lines)
