"""Deployed numerics: every rounding point of the release, module by module with inputs pinned.

What is asked, and how closely, follows from how far two faithful implementations are apart when
they sum in another order: outputs of attention by 2e-3, of experts by 3e-5, as root mean squares.
Leaving out any rounding point moves them by 1e-2 and more. Free runs differ much more: quantisation
turns a last bit into another code, and that into another selection.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from case_runs import DATA, Array, Model, arrays, build, rows_of, shared_model, with_weights

from supertile.frontend.hf_config import read_config
from supertile.ir import graph
from supertile.runtime.generate import Request
from supertile.runtime.plan import FunctionPlan

CASE = "deepseek_v4_deployed"
LAYERS = ("layers.0", "layers.1", "layers.2", "layers.3", "mtp.0")
ATTENTION_LIMIT = 4e-3
EXPERTS_LIMIT = 1e-3
RARE = 2e-3
DRAFT_LIMIT = 0.25
"""Of the mean difference of draft logits in a free run. Feeding the same tokens in other chunks, or
another BLAS, gives 0.04 to 0.14; logits of other tokens are 2.2 apart."""

# Name in the trace -> name in the model file, both within a layer.
INPUTS = {"attn_in": "attn_in", "ffn_in": "ffn_in"}
SELECTIONS = {"route_indices": "ffn.router.chosen", "index_topk": "attn.far.index"}
OUTPUTS = {"attn_out": "attn_out", "ffn_out": "ffn_out"}
STREAMS = {"out": "out"}
STREAMS_AND_INPUTS = ("in", "attn_in", "ffn_in", "out")

# Name in the trace: name in the model file, and the largest relative step of the format: keys are
# FP8 and BF16, index keys FP4, scores BF16.
KEPT = {
    "window_kv": ("attn.kv", 2**-3),
    "compressed_kv": ("attn.far.compressor.rows", 2**-3),
    "index_keys": ("attn.far.indexer.rows", 2**-1),
    "index_scores": ("attn.far.score", 2**-7),
}


def expected(layer: str) -> dict[str, Array]:
    """What the deployed model recorded of a layer, BF16 bits as numbers."""
    prefix = f"deployed.{layer}."
    held = {
        name.removeprefix(prefix): value
        for name, value in arrays(CASE, "trace.npz").items()
        if name.startswith(prefix)
    }
    return {name.removesuffix(".bf16"): _plain(name, value) for name, value in held.items()}


def _plain(name: str, held: Array) -> Array:
    return (held.astype(np.uint32) << 16).view(np.float32) if name.endswith(".bf16") else held


def pins(*tables: dict[str, str], layers: Sequence[str] = LAYERS) -> dict[str, Array]:
    """The trace's values under the names of the model file, for one sequence."""
    return {
        f"{layer}.{ours}": held[theirs][None]
        for layer in layers
        for held in [expected(layer)]
        for table in tables
        for theirs, ours in table.items()
        if theirs in held
    }


@cache
def recorded(pinned: str) -> dict[str, Array]:
    """The values of one pass with some of them pinned."""
    outputs, (first, second, third, fourth) = pins(OUTPUTS), LAYERS[:4]
    held = {
        "inputs": pins(INPUTS),
        "inputs and selections": pins(INPUTS, SELECTIONS),
        "outputs, first and third streams": outputs | pins(STREAMS, layers=(first, third)),
        "outputs, second and fourth streams": outputs | pins(STREAMS, layers=(second, fourth)),
    }
    return shared_model(CASE, "deployed").record(rows_of(CASE), held[pinned])


def ratio(found: Array, wanted: Array) -> float:
    """Root mean square of the difference over that of what is wanted."""
    return float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))


def worst(values: dict[str, Array], name: str) -> float:
    return max(ratio(values[f"{layer}.{name}"], expected(layer)[name]) for layer in LAYERS)


def within_a_step(found: Array, wanted: Array) -> bool:
    """All within one step of BF16: of the number, or of a typical term where terms cancel."""
    typical = np.sqrt(np.mean(wanted**2, axis=-1, keepdims=True))
    return bool((np.abs(found - wanted) <= 2**-7 * np.maximum(np.abs(wanted), typical)).all())


def as_sets(chosen: Array) -> list[set[int]]:
    return [set(row) - {-1} for row in chosen.tolist()]


@pytest.mark.parametrize("layer", LAYERS)
def test_outputs_of_modules(layer: str) -> None:
    found, wanted = recorded("inputs and selections"), expected(layer)
    assert ratio(found[f"{layer}.attn_out"], wanted["attn_out"]) < ATTENTION_LIMIT
    assert ratio(found[f"{layer}.ffn_out"], wanted["ffn_out"]) < EXPERTS_LIMIT
    assert np.abs(found[f"{layer}.ffn.g"] - wanted["route_weights"]).max() < 1e-5


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", KEPT)
def test_what_attention_keeps_is_equal(layer: str, name: str) -> None:
    if name not in expected(layer):
        return
    wanted, (ours, step) = expected(layer)[name], KEPT[name]
    found = recorded("inputs")[f"{layer}.{ours}"][:, : wanted.shape[1]]
    seen = np.isfinite(wanted)
    found, wanted = found[seen], wanted[seen]
    assert (found == wanted).mean() >= 0.99
    within = step * np.maximum(np.abs(found), np.abs(wanted))
    assert (np.abs(found - wanted) <= within).all()


@pytest.mark.parametrize("layer", LAYERS)
def test_equal_inputs_give_equal_selections(layer: str) -> None:
    for theirs, ours in SELECTIONS.items():
        if theirs in expected(layer):
            found = recorded("inputs")[f"{layer}.{ours}"]
            assert as_sets(found) == as_sets(expected(layer)[theirs])


@pytest.mark.parametrize("layer", LAYERS)
def test_streams_between_modules(layer: str) -> None:
    """Collapse, norm and join, after pinned streams: at most rare single steps of BF16."""
    even = layer in ("layers.0", "layers.2", "mtp.0")
    after = "second and fourth" if even else "first and third"
    values = recorded(f"outputs, {after} streams")
    for name in STREAMS_AND_INPUTS:
        if name not in expected(layer):
            continue
        found = values["draft.X" if name == "in" else f"{layer}.{name}"]
        assert (found != expected(layer)[name]).mean() < RARE, name
        assert within_a_step(found, expected(layer)[name]), name


def test_a_free_run_stays_near_on_average() -> None:
    found = shared_model(CASE, "deployed").run(rows_of(CASE))
    io = arrays(CASE, "io.npz")
    assert found.draft is not None
    assert np.abs(found.logits - io["logits_deployed"]).mean() < 0.1
    assert np.abs(found.draft - io["mtp_logits_deployed"]).mean() < DRAFT_LIMIT


def test_the_order_of_calls_shows_no_more_than_the_order_of_sums() -> None:
    model = shared_model(CASE, "deployed")
    whole = model.run(rows_of(CASE)).logits
    pieces = model.run(rows_of(CASE), Request(chunk=1)).logits
    assert np.abs(whole - pieces).mean() < 0.1


# ---- what is left out shows ----------------------------------------------------------------------


def without_rounded_weights() -> Model:
    """Attention's probabilities are not rounded: `round` is missing in the IR."""
    module = build(read_config(DATA / CASE / "config.json"), "deployed")
    for op in module.walk():
        if isinstance(op, graph.Attend):
            del op.properties["round"]
    return with_weights(module, DATA / CASE)


def without_rounded_results() -> Model:
    """No result is rounded to bf16."""

    def plain(function: FunctionPlan) -> FunctionPlan:
        steps = tuple(replace(step, rounds=None) for step in function.steps)
        return replace(function, steps=steps)

    model = shared_model(CASE, "deployed")
    functions = {name: plain(function) for name, function in model.plan.functions.items()}
    return replace(model, plan=replace(model.plan, functions=functions))


def test_missing_roundings_are_found() -> None:
    pinned = pins(INPUTS, SELECTIONS)
    values = without_rounded_weights().record(rows_of(CASE), pinned)
    assert worst(values, "attn_out") > 2 * ATTENTION_LIMIT
    assert worst(values, "ffn_out") < EXPERTS_LIMIT
    values = without_rounded_results().record(rows_of(CASE), pinned)
    assert worst(values, "attn_out") > 2 * ATTENTION_LIMIT
    assert worst(values, "ffn_out") > 2 * EXPERTS_LIMIT
