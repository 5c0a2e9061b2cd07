"""Feed-forward layers whatever gates them: found, fused, sharded, and equal at every level."""

from functools import cache
from pathlib import Path

import pytest

from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config, shrink
from supertile.ir import comm, graph
from supertile.passes.driver import Options, run_passes
from supertile.passes.feed_forward import feed_forwards
from supertile.passes.pipeline import parse_pipeline
from supertile.runtime.compare import NumericCheck

FAMILY = Path(__file__).parents[1] / "data" / "field" / "own_family"
HIDDEN = "hidden = gelu(a) * b"

FUSIONS = "canonicalize,cse,fuse-norm,fuse-residual,fuse-attention,fuse-moe"

# What a model file can write between the two products of an expert.
GATES = {
    "silu": "hidden = silu(a) * b",
    "silu, written out": "hidden = a * sigmoid(a) * b",
    "gelu": HIDDEN,
    "gelu by tanh": "hidden = 0.5 * a * (1 + tanh(0.79788456 * (a + 0.044715 * a * a * a))) * b",
    "relu": "hidden = relu(a) * b",
    "squared relu": "hidden = relu(a) * relu(a) * b",
    "the gate behind": "hidden = b * relu(a)",
    "alpha and limits": "c = min(a, 7) | hidden = c * sigmoid(1.702 * c) * (clamp(b, -7, 7) + 1)",
    "tanh": "hidden = tanh(a) * b",
    "softplus": "hidden = softplus(a) * b",
    "no activation": "hidden = a * b",
    "exp over sum": "hidden = b * (exp(a) / (exp(a) + 2))",
}


@cache
def text() -> str:
    return (FAMILY / "strand.st").read_text()


def module_of(gate: str, folder: Path, numerics: str = "reference"):
    """The small model with a gate in all its layers: experts, the shared expert, a dense layer."""
    file = folder / "model.st"
    assert HIDDEN in text()
    file.write_text(text().replace(HIDDEN, gate.replace(" | ", "\n  ")))
    return build_model(file, shrink(read_config(FAMILY / "config.json")), numerics)


def checked(module, pipeline: str) -> None:
    """Runs passes, with the numbers compared around each of them."""
    check, passes = NumericCheck(module), parse_pipeline(pipeline)
    kinds = iter(passes)
    run_passes(
        module,
        passes,
        Options(
            after_pass=lambda name, before, after: check.compare(
                name, next(kinds).equivalence_on(before), before, after
            )
        ),
    )


@pytest.mark.parametrize("gate", GATES)
def test_layers_with_any_gate_are_found_and_fused(gate: str, tmp_path: Path) -> None:
    module = module_of(GATES[gate], tmp_path)
    blocks = [function.body.block for function in module.ops]
    layers = [layer for block in blocks for layer in feed_forwards(block.ops)]
    assert len(layers) == 3 and {len(layer.products) for layer in layers} == {2}
    run_passes(module, parse_pipeline(FUSIONS))
    groups = [op for op in module.walk() if isinstance(op, graph.Fused)]
    kinds = [op.kind.data for op in groups]
    for kind in ("experts", "shared_expert", "feed_forward"):
        assert kinds.count(kind) == 1, kind
    experts = next(op for op in groups if op.kind.data == "experts")
    inside = [type(op) for op in experts.body.block.ops]
    assert inside.count(graph.GroupedLinear) == 3 and {graph.Dispatch, graph.Combine} <= {*inside}


@pytest.mark.parametrize("gate", ["gelu", "alpha and limits"])
def test_numbers_are_kept_down_to_the_tiles(gate: str, tmp_path: Path) -> None:
    checked(module_of(GATES[gate], tmp_path), f"{FUSIONS},choose-tiles,lower-to-tile")


@pytest.mark.parametrize("gate", ["gelu", "alpha and limits"])
def test_layers_are_sliced_over_ranks(gate: str, tmp_path: Path) -> None:
    module = module_of(GATES[gate], tmp_path)
    checked(module, "canonicalize,cse,shard-attention{ranks=2,experts=slice}")
    cut = [op for op in module.walk() if isinstance(op, graph.Weight) and op.shard is not None]
    names = [op.checkpoint.data.rpartition(".")[2] for op in cut]
    for name in ("gate", "up", "down"):  # of the experts, the shared expert and the dense layer
        assert names.count(name) == 3, name
    assert any(isinstance(op, comm.AllReduce) for op in module.walk())


@pytest.mark.parametrize(
    "gate",
    ["hidden = a + b", "hidden = 2 * a - b / 4", "c = rms_scale(a, 1e-6) | hidden = c * b"],
)
def test_one_linear_map_or_a_norm_between_is_no_such_layer(gate: str, tmp_path: Path) -> None:
    module = module_of(gate, tmp_path)
    blocks = [function.body.block for function in module.ops]
    assert [layer for block in blocks for layer in feed_forwards(block.ops)] == []
