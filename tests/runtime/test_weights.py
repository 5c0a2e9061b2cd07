"""Weights: which names a plan reads, in which formats, and in what form numerics get them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from small_models import CONFIG, Array

from supertile.frontend.build import build_model
from supertile.frontend.hf_config import normalize
from supertile.ir.errors import UserError
from supertile.ir.shard import ShardAttr
from supertile.ir.types import MxAttr, f8e4m3, tensor
from supertile.runtime.checkpoint import Checkpoint
from supertile.runtime.numerics import Scaled, quantize_blocks, round_bf16
from supertile.runtime.plan import ModulePlan, WeightUse, plan_module
from supertile.runtime.weights import Weights

MODEL = """
model Small for "llama"

config
  D = hidden_size: int
  V = vocab_size: int
  H = num_attention_heads: int

format fp8 = scaled(f8e4m3, f8e8m0, [4, 4])
format fp4 = scaled(f4e2m1, f8e8m0, [1, 2])

block expert(x: [M, D], g: [M]) -> y
  weight up: fp4[D, D] "up.weight"
  return linear(x, up) * g

block layer(x: [T, D]) -> out
  weight square: fp8[D, D] "square.weight"
  weight cube: fp8[H, D / H, D] "cube.weight"
  weight gain: bf16[D] "gain"
  part experts: expert[3] "experts.{e}."
  s = linear(x, square) * gain
  chosen = top(s, 1)
  flat = reshape(cube, [D, D])
  out = bf16(linear(x, flat) + route(experts, x, take(s, chosen), chosen))
  return out

entry logits(ids: i64[T]) -> logits
  weight embed: bf16[V, D] "embed"
  part layers: layer[layers] "layers.{l}."
  x = gather(embed, ids)
  for l in layers
    x = layers[l](x)
  return linear(x, embed)

entry draft(ids: i64[T]) -> logits
  weight embed: bf16[V, D] "embed"
  weight other: bf16[V, D] "draft.embed"
  return linear(gather(embed, ids), other)
"""
LAYER = ("square.weight", "cube.weight", "gain", *(f"experts.{e}.up.weight" for e in range(3)))
LOGITS = ["embed", *(f"layers.{layer}.{name}" for layer in range(2) for name in LAYER)]
SHAPES = {"embed": (11, 4), "draft.embed": (11, 4), "gain": (4,)}


@pytest.fixture
def plan(tmp_path: Path) -> ModulePlan:
    return plan_of(tmp_path, "reference")


def plan_of(folder: Path, numerics: str) -> ModulePlan:
    path = folder / "small.st"
    path.write_text(MODEL)
    data = {**CONFIG, "num_attention_heads": 2}
    config = normalize(data, "config.json", json.dumps(data))
    return plan_module(build_model(path, config, numerics))


def shape_of(name: str) -> tuple[int, ...]:
    return SHAPES.get(name, SHAPES.get(name.rpartition(".")[2], (4, 4)))


def numbers(name: str) -> Array:
    """Numbers that every format here holds exactly: FP4 codes times powers of two."""
    generator = np.random.default_rng([*name.encode()])
    codes = generator.choice([0.5, 1, 1.5, 2, 3, -1, -2, -3], shape_of(name))
    return (codes * 2.0 ** generator.integers(-2, 3)).astype(np.float32)


def widest(names: list[str] = LOGITS) -> dict[str, Array]:
    """Every weight in float32."""
    return {name: numbers(name) for name in names}


def as_bf16(x: Array) -> Array:
    return x.astype(ml_dtypes.bfloat16)


def as_released() -> dict[str, Array]:
    """Every weight in its declared format: BF16, FP8 with scales, packed FP4 with scales."""
    tensors: dict[str, Array] = {}
    for name, held in widest().items():
        if not name.endswith(".weight"):
            tensors[name] = as_bf16(held)
            continue
        scales = name.removesuffix(".weight") + ".scale"
        if "experts" in name:
            code = quantize_blocks(held, "f4e2m1", (1, 2)).pack()
            tensors[name] = code.codes.view(np.int8)
        else:
            code = quantize_blocks(held, "f8e4m3", (4, 4))
            tensors[name] = code.codes.view(ml_dtypes.float8_e4m3fn)
        tensors[scales] = code.scales.view(ml_dtypes.float8_e8m0fnu)
    return tensors


def load(folder: Path, plan: ModulePlan, tensors: dict[str, Array], *entries: str) -> Weights:
    save_file(tensors, folder / "model.safetensors")
    return Weights(Checkpoint(folder), plan, list(entries or ["logits"]))


def held(weights: Weights, plan: ModulePlan) -> dict[str, list[Any]]:
    """All weights of `logits` by pattern: one for each layer, or just one."""
    return {
        use.pattern: [weights.get(use, layer) for layer in layers or [None]]
        for use, layers in plan.weights_of("logits")
    }


def plain(weight: Any) -> Array:
    if isinstance(weight, list):
        return np.stack([plain(one) for one in weight])
    return np.asarray(weight.dequantize() if isinstance(weight, Scaled) else weight)


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["embed", "layers.1.gain", "layers.0.experts.2.up.weight"])
def test_what_an_entry_reads_must_be_there(tmp_path: Path, plan: ModulePlan, missing: str) -> None:
    tensors = widest()
    del tensors[missing]
    with pytest.raises(UserError, match=f"has no tensor '{missing}'"):
        load(tmp_path, plan, tensors)


def test_what_no_compiled_entry_reads_may_be_absent(tmp_path: Path, plan: ModulePlan) -> None:
    load(tmp_path, plan, widest(), "logits")
    with pytest.raises(UserError, match=r"has no tensor 'draft\.embed'"):
        load(tmp_path, plan, widest(), "logits", "draft")
    load(tmp_path, plan, widest(["embed", "draft.embed"]), "draft")


def test_what_nothing_reads_may_be_there(tmp_path: Path, plan: ModulePlan) -> None:
    load(tmp_path, plan, {**widest(), "unknown": np.zeros(3, np.float32)})


def test_a_wrong_shape_is_refused_before_anything_runs(tmp_path: Path, plan: ModulePlan) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, plan, {**widest(), "layers.1.gain": np.zeros(5, np.float32)})
    assert caught.value.code == "checkpoint.shape"


def test_layers_and_experts_get_their_own(tmp_path: Path, plan: ModulePlan) -> None:
    found = held(load(tmp_path, plan, widest()), plan)
    assert (found["layers.{l}.gain"][1] == numbers("layers.1.gain")).all()
    experts = found["layers.{l}.experts.{e}.up.weight"]
    assert (experts[1][2] == numbers("layers.1.experts.2.up.weight")).all()
    assert (found["embed"][0] == numbers("embed")).all()


def test_a_weight_is_read_once(tmp_path: Path, plan: ModulePlan) -> None:
    weights = load(tmp_path, plan, widest())
    first, second = held(weights, plan), held(weights, plan)
    assert all(a is b for name in first for a, b in zip(first[name], second[name], strict=True))


def test_one_tensor_in_two_shapes(tmp_path: Path, plan: ModulePlan) -> None:
    weights = load(tmp_path, plan, widest())
    (cube,) = (use for use, _ in plan.weights_of("logits") if "cube" in use.pattern)
    (square,) = (use for use, _ in plan.weights_of("logits") if "square" in use.pattern)
    flat = WeightUse(cube.pattern, square.kind)
    assert weights.get(cube, 0).shape == (2, 2, 4)
    assert weights.get(flat, 0).shape == (4, 4)


# ---- slices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("numerics", ["reference", "deployed"])
@pytest.mark.parametrize(
    ("part", "axis"), [("square", 0), ("square", 1), ("cube", 0), ("gain", 0), ("up", 1), ("up", 2)]
)
def test_a_rank_reads_its_slice(tmp_path: Path, numerics: str, part: str, axis: int) -> None:
    """Of experts the axes count from that of the experts; codes go with their scales."""
    plan = plan_of(tmp_path, numerics)
    use = next(use for use, _ in plan.weights_of("logits") if part in use.pattern)
    if part == "square":  # blocks of 4 are whole in a tensor of 4
        use = replace(use, kind=tensor(use.kind.get_shape(), f8e4m3, MxAttr.of((2, 2))))
    weights = load(tmp_path, plan, widest())
    whole = weights.get(use, 1)
    shape = list(use.kind.get_shape())
    shape[axis] //= 2
    kind = tensor(shape, use.kind.element_type, use.kind.encoding)
    shared = replace(use, kind=kind, shard=ShardAttr.of(axis, 2, 4))
    for rank in range(8):
        found = weights.get(shared.on(rank), 1)
        pairs = zip(found, whole, strict=True) if "{e}" in use.pattern else [(found, whole)]
        for mine, all_of_it in pairs:
            own = axis - ("{e}" in use.pattern)
            wanted = np.split(plain(all_of_it), 2, own)[rank % 4 // 2]
            assert np.array_equal(plain(mine), wanted)
            assert type(mine) is type(all_of_it)


def test_a_slice_that_would_cut_a_block_is_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "deployed")
    use = next(use for use, _ in plan.weights_of("logits") if "square" in use.pattern)
    kind = tensor((2, 4), use.kind.element_type, use.kind.encoding)
    weights = load(tmp_path, plan, widest())
    with pytest.raises(ValueError, match="4 in 2 parts would cut blocks of 4"):
        weights.get(replace(use, kind=kind, shard=ShardAttr.of(0, 2, 2)), 0)


# ---- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("numerics", ["reference", "deployed"])
def test_the_declared_format_and_the_widest_give_the_same(tmp_path: Path, numerics: str) -> None:
    plan = plan_of(tmp_path, numerics)
    released = held(load(tmp_path, plan, as_released()), plan)
    wide = held(load(tmp_path, plan, widest()), plan)
    for name, weights in released.items():
        for one, two in zip(weights, wide[name], strict=True):
            assert (plain(one) == plain(two)).all(), name
            assert type(one) is type(two), name


def test_reference_numbers_are_plain_and_not_rounded(tmp_path: Path, plan: ModulePlan) -> None:
    tensors = {name: x * np.float32(1.01) for name, x in widest().items()}
    for name, weights in held(load(tmp_path, plan, tensors), plan).items():
        first = plain(weights[0]).reshape(-1)[:4]
        stored = tensors[name.format(l=0, e=0)].reshape(-1)[:4]
        assert (first == stored).all(), name


def test_deployed_numbers_are_rounded_to_the_declared_format(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "deployed")
    tensors = {name: x * np.float32(1.01) for name, x in widest().items()}
    found = held(load(tmp_path, plan, tensors), plan)
    assert (found["embed"][0] == round_bf16(tensors["embed"])).all()
    square = found["layers.{l}.square.weight"][0]
    assert (square.element, square.block) == ("f8e4m3", (4, 4))
    expert = found["layers.{l}.experts.{e}.up.weight"][0][0]
    assert (expert.element, expert.block) == ("f4e2m1", (1, 2))


def test_codes_of_a_wider_format_are_brought_to_the_declared_one(tmp_path: Path) -> None:
    """FP4 declared, FP8 stored, as some releases do with experts."""
    plan, tensors = plan_of(tmp_path, "deployed"), as_released()
    name = "layers.0.experts.0.up"
    wide = quantize_blocks(numbers(f"{name}.weight"), "f8e4m3", (128, 128))
    tensors[f"{name}.weight"] = wide.codes.view(ml_dtypes.float8_e4m3fn)
    tensors[f"{name}.scale"] = wide.scales.view(ml_dtypes.float8_e8m0fnu)
    weights = held(load(tmp_path, plan, tensors), plan)["layers.{l}.experts.{e}.up.weight"][0]
    assert [weight.element for weight in weights] == ["f4e2m1"] * 3
    assert (weights[0].dequantize() == numbers(f"{name}.weight")).all()


def test_codes_stay_codes_where_products_take_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "deployed")
    found = held(load(tmp_path, plan, as_released()), plan)
    assert isinstance(found["layers.{l}.square.weight"][0], Scaled)
    assert isinstance(found["layers.{l}.cube.weight"][0], np.ndarray)
    assert found["layers.{l}.cube.weight"][0].shape == (2, 2, 4)


def test_a_narrower_format_is_refused(tmp_path: Path, plan: ModulePlan) -> None:
    tensors = {**widest(), "embed": numbers("embed").astype(ml_dtypes.float8_e4m3fn)}
    with pytest.raises(UserError) as caught:
        load(tmp_path, plan, tensors)
    assert caught.value.code in ("checkpoint.dtype", "checkpoint.narrower")
