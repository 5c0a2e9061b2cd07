"""Weights that a pass converted: what is read is what the model declares, what is held is not."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from small_models import planned

from supertile.ir.errors import UserError
from supertile.ir.text import HEADER, parse_module
from supertile.runtime.checkpoint import Checkpoint
from supertile.runtime.execute import Executor
from supertile.runtime.numerics import (
    Scaled,
    quantize,
    quantize_blocks,
    round_bf16,
    scaled_product,
)
from supertile.runtime.plan import ModulePlan, plan_module
from supertile.runtime.weights import Weights

FP4 = "tensor<3x8xf4E2M1FN, #graph.mx<[1, 4], f8E8M0FNU>>"
I8 = "tensor<3x8xi8, #graph.mx<[1, 8], f32>>"
BF16 = "tensor<3x8xbf16>"
NUMBERS = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)


def plan_of(kind: str, numerics: str = "deployed") -> ModulePlan:
    entries = f'supertile.entries = ["f"], supertile.numerics = "{numerics}"'
    text = f"""{HEADER}
        builtin.module attributes {{{entries}}} {{
          func.func @f() -> {kind} {{
            %w = graph.weight {{checkpoint = "w", stored = {FP4}}} : () -> {kind}
            func.return %w : {kind}
          }}
        }}"""
    return plan_module(parse_module(text, "test.mlir"))


def read(folder: Path, plan: ModulePlan, packed: bool) -> Any:
    """The weight from a checkpoint that holds FP4, or the same numbers in BF16."""
    code = quantize_blocks(NUMBERS, "f4e2m1", (1, 4)).pack()
    tensors = {"w": code.codes.view(np.int8), "w.scale": code.scales.view(ml_dtypes.float8_e8m0fnu)}
    if not packed:
        tensors = {"w": code.dequantize().astype(ml_dtypes.bfloat16)}
    save_file(tensors, folder / "model.safetensors")
    weights = Weights(Checkpoint(folder), plan, ["f"])
    ((use, _),) = plan.weights_of("f")
    assert weights.get(use, None) is weights.get(use, None)  # converted once
    return weights.get(use, None)


def declared() -> np.ndarray:
    return quantize_blocks(NUMBERS, "f4e2m1", (1, 4)).dequantize()


@pytest.mark.parametrize("packed", [True, False])
def test_int8_codes_of_the_declared_numbers(tmp_path, packed):
    held = read(tmp_path, plan_of(I8), packed)
    assert isinstance(held, Scaled)
    assert (held.element, held.block, held.scales.shape) == ("i8", (1, 8), (3, 1))
    expected = quantize_blocks(declared(), "i8", (1, 8))
    assert (held.codes == expected.codes).all() and (held.scales == expected.scales).all()


@pytest.mark.parametrize("packed", [True, False])
def test_bf16_holds_fp4_exactly(tmp_path, packed):
    held = read(tmp_path, plan_of(BF16), packed)
    assert (held == declared()).all()
    assert (held == round_bf16(held)).all()


def test_reference_numerics_take_the_converted_numbers_plain(tmp_path):
    held = read(tmp_path, plan_of(I8, "reference"), packed=False)
    assert (held == quantize_blocks(declared(), "i8", (1, 8)).dequantize()).all()


def test_a_use_is_told_from_that_of_the_declared_format():
    converted, plain = (plan_of(kind).weights_of("f") for kind in (I8, BF16))
    ((one, _),), ((other, _),) = converted, plain
    assert one.key != other.key
    assert one.declared == other.declared


def test_the_shape_stays():
    wrong = I8.replace("3x8", "4x8")
    with pytest.raises(UserError, match="shape that is stored"):
        plan_of(wrong)


def test_quantized_tokens_by_converted_weights():
    """The executor multiplies INT8 codes and rounds once."""
    plan = planned(
        f"""func.func @f(%x: tensor<?x8xbf16> {{graph.name = "x"}}) -> tensor<?x3xbf16> {{
          %w = graph.weight {{checkpoint = "w", stored = {FP4}}} : () -> {I8}
          %q = graph.quantize %x : (tensor<?x8xbf16>) -> tensor<?x8xi8, #graph.mx<[1, 8], f32>>
          %y = graph.linear %q, %w
            : (tensor<?x8xi8, #graph.mx<[1, 8], f32>>, {I8}) -> tensor<?x3xbf16>
          func.return %y : tensor<?x3xbf16>
        }}"""
    )
    x = round_bf16(np.random.default_rng(1).standard_normal((4, 8)))
    w = quantize_blocks(declared(), "i8", (1, 8))
    (found,) = Executor(plan, lambda use, layer: w).call("f", [x])
    assert (found == round_bf16(scaled_product(quantize(x, "i8", 8), w))).all()
