"""Runs whose logits are not finite: the first value that is not is named, at every level."""

from pathlib import Path

import pytest
from command_files import DATA, damaged

from supertile.cli.main import main

V4, V3 = DATA / "deepseek_v4", DATA / "deepseek_v3"


def told(model: str, case: Path, weights: Path, options: str, capsys) -> str:
    files = f"--config {case} --weights {weights} --tokens {case / 'io.npz'} --prompt 12"
    assert main(f"run {model} {files} {options}".split()) == 1
    output, errors = capsys.readouterr()
    assert not output
    assert errors.count("error: ") == 1 and "Warning" not in errors and "finite" in errors
    return errors


@pytest.fixture(scope="module")
def attention(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("damaged") / "attention"
    return damaged(V4, target, "layers.2.attn", 1e30)


# Options, and the value or the op that is named.
LEVELS = {
    "": "graph.linear at deepseek_v4.st:151 in layer 2",
    "--level tiled": "graph.linear at deepseek_v4.st:151 in layer 2",
    "--ep 4 --tp 2 --chunk 5": "graph.linear at deepseek_v4.st:151 in layer 2",
    "--level scheduled --ep 2 --waves 2": "at deepseek_v4.st:151 in layer 2",
    "--numerics deployed": "graph.linear at deepseek_v4.st:151 in layer 2",
}


@pytest.mark.parametrize("options", LEVELS)
def test_the_first_value_is_named(options, attention, capsys):
    errors = told("deepseek_v4", V4, attention, options, capsys)
    assert LEVELS[options] in errors
    assert "of finite operands up to " in errors and " in the order of the program" in errors


def test_an_infinity_of_a_mask_is_not_to_blame(tmp_path, capsys):
    """V3 closes groups of experts with -inf in every layer, which `top` takes away."""
    weights = damaged(V3, tmp_path / "w", "layers.2.mlp.experts", 1e25)
    errors = told("deepseek_v3", V3, weights, "", capsys)
    assert "limited" not in errors and "graph.where" not in errors
    assert "graph.multiply at deepseek_v3.st" in errors and "in layer 2" in errors
