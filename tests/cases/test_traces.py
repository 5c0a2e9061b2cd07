"""Reference numerics, value by value: what each layer computes is what the oracles recorded."""

from functools import cache

import numpy as np
import pytest
from case_runs import TOLERANCE, Array, apart, arrays, rows_of, shared_model

from supertile.ir.errors import UserError

# Name in the trace -> name in the model file, both within a layer.
OF_TRANSFORMERS = {
    "attn_in_collapsed": "x",
    "ffn_in_collapsed": "y",
    "q_latent": "attn.a",
    "attn_out": "attn_out",
    "ffn_out": "ffn_out",
    "attn_hc_post": "hc_attn.post",
    "attn_hc_comb": "hc_attn.A",
    "compressed_kv": "attn.far.compressor.rows",
    "out": "out",
}
OF_RELEASE = {"attn_out": "attn_out", "ffn_out": "ffn_out", "out": "out"}
SELECTIONS = {"route_indices": "ffn.router.chosen", "index_topk": "attn.far.index"}

V4_LAYERS = range(6)
RELEASE_LAYERS = ("layers.0", "layers.1", "layers.2", "layers.3", "mtp.0")


def v4_trace(layer: int) -> dict[str, Array]:
    """What transformers recorded of a layer of `deepseek_v4`."""
    prefix = f"layer{layer}."
    found = arrays("deepseek_v4", "trace.npz")
    held = {name: value[0] for name, value in found.items() if name.startswith(prefix)}
    held = {name.removeprefix(prefix): value for name, value in held.items()}
    if "compressed_kv" in held:
        held["compressed_kv"] = held["compressed_kv"][0]  # an axis of key heads
    return held


def release_trace(layer: str) -> dict[str, Array]:
    """What our model of the release recorded of a layer of `deepseek_v4_deployed`."""
    prefix = f"reference.{layer}."
    found = arrays("deepseek_v4_deployed", "trace.npz")
    return {name.removeprefix(prefix): held for name, held in found.items() if prefix in name}


def layer_values(case: str, layer: str) -> dict[str, Array]:
    values = recorded(case)
    prefix = f"{layer}."
    return {n.removeprefix(prefix): held for n, held in values.items() if n.startswith(prefix)}


@cache
def recorded(case: str) -> dict[str, Array]:
    return shared_model(case).record(rows_of(case))


def same_values(found: dict[str, Array], expected: dict[str, Array], names: dict[str, str]) -> int:
    """How many names were compared."""
    compared = [name for name in names if name in expected]
    for name in compared:
        scale = max(1.0, float(expected[name].std()))  # streams grow from layer to layer
        assert apart(found[names[name]], expected[name]) < scale * TOLERANCE, name
    return len(compared)


def as_sets(chosen: Array) -> list[set[int]]:
    return [set(row) - {-1} for row in chosen.tolist()]


def same_selections(found: dict[str, Array], expected: dict[str, Array]) -> None:
    for name, ours in SELECTIONS.items():
        if name in expected:
            assert as_sets(found[ours]) == as_sets(expected[name]), name


def same_scores(found: Array, expected: Array, ratio: int) -> None:
    """Scores of the blocks that a token can see; the others mean nothing."""
    tokens, blocks = expected.shape
    seen = np.arange(blocks) < (np.arange(tokens)[:, None] + 1) // ratio
    assert apart(found[:, :blocks][seen], expected[seen]) < TOLERANCE


@pytest.mark.parametrize("layer", V4_LAYERS)
def test_layers_of_v4_are_those_of_transformers(layer: int) -> None:
    found, expected = layer_values("deepseek_v4", f"layers.{layer}"), v4_trace(layer)
    assert same_values(found, expected, OF_TRANSFORMERS) >= 8
    same_selections(found, expected)
    if "index_scores" in expected:
        same_scores(found["attn.far.score"], expected["index_scores"], ratio=4)


@pytest.mark.parametrize("layer", V4_LAYERS)
def test_router_weights_belong_to_their_experts(layer: int) -> None:
    found, expected = layer_values("deepseek_v4", f"layers.{layer}"), v4_trace(layer)
    ours = np.argsort(found["ffn.router.chosen"])
    theirs = np.argsort(expected["route_indices"])
    weights = np.take_along_axis(found["ffn.g"], ours, axis=-1)
    assert apart(weights, np.take_along_axis(expected["route_weights"], theirs, axis=-1)) < 1e-5


@pytest.mark.parametrize("layer", RELEASE_LAYERS)
def test_layers_of_the_release_with_its_draft_layer(layer: str) -> None:
    found, expected = layer_values("deepseek_v4_deployed", layer), release_trace(layer)
    assert same_values(found, expected, OF_RELEASE) >= 2
    same_selections(found, expected)
    if "index_scores" in expected:
        same_scores(found["attn.far.score"], expected["index_scores"], ratio=4)


@pytest.mark.parametrize("chunk", [1, 5])
def test_a_trace_does_not_depend_on_the_calls(chunk: int) -> None:
    whole = recorded("deepseek_v4")
    pieces = shared_model("deepseek_v4").record(rows_of("deepseek_v4"), chunk=chunk)
    for layer in V4_LAYERS:
        for name in ("x", "attn_out", "ffn.g", "attn.far.compressor.rows", "out"):
            full = f"layers.{layer}.{name}"
            assert full not in whole or apart(pieces[full], whole[full]) < TOLERANCE
        chosen = f"layers.{layer}.ffn.router.chosen"
        assert as_sets(pieces[chosen]) == as_sets(whole[chosen])


CHOSEN = "layers.3.ffn.router.chosen"


def test_experts_can_be_pinned() -> None:
    model, rows = shared_model("deepseek_v4"), rows_of("deepseek_v4")
    other = (recorded("deepseek_v4")[CHOSEN] + 1) % 8
    found = model.record(rows, {CHOSEN: other[None]})
    assert as_sets(found[CHOSEN]) == as_sets(other)
    assert apart(found["layers.3.ffn_in"], recorded("deepseek_v4")["layers.3.ffn_in"]) == 0
    assert apart(found["layers.3.ffn_out"], recorded("deepseek_v4")["layers.3.ffn_out"]) > 0.1


@pytest.mark.parametrize(
    ("pin", "code"),
    [
        (np.full((1, 54, 3), 8), "run.pin_effect"),
        (np.full((1, 54, 3), -1), "run.pin_effect"),
        (np.zeros((1, 54, 3)), "run.pin_dtype"),
        (np.zeros((1, 54, 2), int), "run.pin_shape"),
    ],
)
def test_experts_that_do_not_exist(pin: Array, code: str) -> None:
    with pytest.raises(UserError) as caught:
        shared_model("deepseek_v4").record(rows_of("deepseek_v4"), {CHOSEN: pin})
    assert caught.value.code == code
    assert CHOSEN in str(caught.value)
