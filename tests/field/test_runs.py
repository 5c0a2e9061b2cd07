"""Runs as users ask for them: names that kernel authors try, their pins, numbers of others."""

import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from supertile.cli.main import main
from supertile.runtime.numerics import (
    decode_e2m1,
    decode_e4m3,
    decode_e8m0,
    encode_i8,
    quantize,
    unpack_e2m1,
)

CASE = "tests/data/deepseek_v4"
ROUTES, BLOCKS = "layers.*.ffn.router.chosen", "layers.*.attn.far.index"
INDEX = "layers.4.attn.far.index"
Arrays = dict[str, NDArray[np.generic]]


@pytest.fixture(scope="module")
def traced(tmp_path_factory) -> Arrays:
    """Routes, selections and attention outputs of the small V4, by name."""
    path = tmp_path_factory.mktemp("traced") / "out.npz"
    assert run("--trace", f"{ROUTES},{BLOCKS},layers.*.attn_out", "-o", str(path)) == 0
    with np.load(path) as held:
        return dict(held)


def run(*options: str, prompt: str = "24") -> int:
    files = ["--config", CASE, "--weights", CASE, "--tokens", f"{CASE}/io.npz"]
    return main(["run", "deepseek_v4", *files, "--prompt", prompt, *options])


def pinned(path, *options: str, **values: NDArray[np.generic]) -> int:
    np.savez(path, **{name.replace("_", "."): held for name, held in values.items()})
    return run("--pin", str(path), *options)


def test_routes_selections_and_outputs_of_attention_by_name(traced):
    tokens = traced["logits"].shape[:2]
    names = [name for name in traced if name.startswith("layers.")]
    assert sum(name.endswith("attn_out") for name in names) == 6
    assert sum(name.endswith("router.chosen") for name in names) == 6
    assert sum(name.endswith("far.index") for name in names) >= 1
    assert all(traced[name].shape[:2] == tokens for name in names)


@pytest.mark.parametrize("option", ["--trace", "--pin"])
def test_a_name_that_is_not_there_leads_to_those_like_it(option, tmp_path, capsys):
    path = tmp_path / "pin.npz"
    np.savez(path, **{"layers.4.attn.indexer.scores": np.zeros((2, 24, 4), np.float32)})
    given = "layers.*.attn.indexer.scores" if option == "--trace" else str(path)
    assert run(option, given) == 1
    told = capsys.readouterr().err
    assert "attn.far.score, beside layers." in told
    assert "attn.far.dots and layers." in told and "attn.far.index" in told


def test_a_selection_of_what_a_token_must_not_see(traced, tmp_path, capsys):
    """Token 9 sees the two blocks of four that are complete: 0 and 1."""
    index = traced[INDEX].copy()
    assert index[0, 9].tolist() == [1, 0, -1, -1] or index[0, 9].tolist() == [0, 1, -1, -1]
    index[0, 9, 1] = 2
    np.savez(tmp_path / "pin.npz", **{INDEX: index})
    assert run("--pin", str(tmp_path / "pin.npz")) == 1
    told = capsys.readouterr().err
    assert f"the pin {INDEX} is not causal: token 9 of sequence 0 does not see that" in told
    assert "expected: 0 to 1\n" in told and "found: 2\n" in told


@pytest.mark.parametrize("ranks", ["", "--level tiled", "--ep 4 --tp 2"])
def test_a_pin_of_some_positions_says_how_many(traced, tmp_path, capsys, ranks):
    np.savez(tmp_path / "pin.npz", **{INDEX: traced[INDEX][:, :5]})
    assert run("--pin", str(tmp_path / "pin.npz"), *ranks.split()) == 0
    assert f"  pinned: 10 of 48 positions of {INDEX}\n" in capsys.readouterr().out


def test_a_pin_of_all_positions_says_so(traced, tmp_path, capsys):
    np.savez(tmp_path / "pin.npz", **{INDEX: traced[INDEX]})
    assert run("--pin", str(tmp_path / "pin.npz")) == 0
    assert f"  pinned: all 48 positions of {INDEX}\n" in capsys.readouterr().out


def test_a_pin_of_no_number(traced, tmp_path, capsys):
    name = "layers.1.attn_out"
    values = traced[name].copy()
    values[1, 7, 3] = np.nan
    np.savez(tmp_path / "pin.npz", **{name: values})
    assert run("--pin", str(tmp_path / "pin.npz")) == 1
    told = capsys.readouterr().err
    assert f"the pin {name} holds no number for token 7 of sequence 1" in told
    assert "found: nan at [3]" in told


# ---- numbers of others ---------------------------------------------------------------------------

HALVES = {0.5: 0, 1.5: 2, 2.5: 2, -0.5: 0, -1.5: -2, -2.5: -2, 126.5: 126}


@pytest.mark.parametrize("number", HALVES)
def test_halves_go_to_even_integers(number):
    assert encode_i8(np.float32([number])).view(np.int8).tolist() == [HALVES[number]]


FP4 = (-1 / 128) * np.float32([0, 1, 0, 1, 2, 4, 1, -2, 3, 1, 6, 1, -1, -2, 1, 1])
FP8 = (1 / 256) * np.float32([-1, 9, -10, 18, 8, 4.5, -8, -3.25])
STORED = {
    ("f4e2m1", "a0a8ec4aadaf42aa", 0x78): FP4,
    ("f8e4m3", "d871f2797069f0e5", 0x73): FP8,
}


@pytest.mark.parametrize("element, codes, scale", STORED)
def test_bytes_of_a_release(element, codes, scale):
    """The second code of a byte of FP4 is in its high half; a scale is a power of two."""
    raw = np.frombuffer(bytes.fromhex(codes), np.uint8)
    values = decode_e2m1(unpack_e2m1(raw)) if element == "f4e2m1" else decode_e4m3(raw)
    found = values * decode_e8m0(np.uint8([scale]))
    assert found.tolist() == STORED[element, codes, scale].tolist()


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 0.1, 1.0, 30.0, 4e4]))
def test_codes_beside_a_scale_of_a_power_of_two(seed, size):
    """Scales that are rounded up before the codes, with a floor of 1e-4 below the largest value."""
    x = np.random.default_rng(seed).standard_normal((4, 256), np.float32) * np.float32(size)
    largest = np.maximum(np.abs(x.reshape(4, 2, 128)).max(-1), np.float32(1e-4))
    scales = np.exp2(np.ceil(np.log2(largest.astype(np.float64) / 448))).astype(np.float32)
    codes = (x / np.repeat(scales, 128, axis=-1)).astype(ml_dtypes.float8_e4m3fn)
    ours = quantize(x, "f8e4m3", 128)
    assert np.array_equal(decode_e8m0(ours.scales), scales)
    assert np.array_equal(ours.codes, codes.view(np.uint8))


# ---- ranks ---------------------------------------------------------------------------------------

RANKS = """
import sys
from supertile.cli.main import main
files = "--config {case} --weights {case} --tokens {case}/io.npz --row-invariant"
for name, options in (("one", ""), ("two", "--ep 2")):
    line = f"run deepseek_v4 {{files}} {{options}} -o {{sys.argv[1]}}/{{name}}.npz"
    assert main(line.split()) == 0
"""


def test_two_ranks_have_the_bits_of_one_under_a_library_that_sums_by_place(tmp_path):
    """OpenBLAS's kernels for Haswell give a row other bits at another place in a block of 16."""
    line = [sys.executable, "-c", RANKS.format(case=CASE), str(tmp_path)]
    subprocess.run(line, check=True, env={**os.environ, "OPENBLAS_CORETYPE": "Haswell"})
    one, two = (np.load(tmp_path / f"{name}.npz")["logits"] for name in ("one", "two"))
    assert one.shape[1] == 54 and one.tobytes() == two.tobytes()
