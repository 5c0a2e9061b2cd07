"""The sizes of a model's experts on a machine, read off its configuration alone.

    sizes = expert_sizes(config, machine)       # UserError for a dense model

They are those of the IR behind `plan-experts` and `legalize-formats`: codes travel with their
scales, and what the machine does not store is INT8 with a scale for a row, or else BF16.
"""

from __future__ import annotations

from dataclasses import dataclass

from supertile.ir.comm_work import CopyBytes
from supertile.ir.errors import UserError
from supertile.targets.cost.sizes import config_number
from supertile.targets.deploy import Config
from supertile.targets.formats import legalize_options
from supertile.targets.machine_types import Machine

BLOCK, FP4_BLOCK = 128, 32
"""Channels that share a scale: of activations in both directions of FP8 weights, and of FP4."""
ROUTING = 12
"""Bytes that go with a choice: its weight (f32), its source rank and place there (i32 each)."""
WIDTHS = {"f8e4m3": 1.0, "i8": 1.0, "bf16": 2.0, "f32": 4.0}


@dataclass(frozen=True)
class ExpertSizes:
    """One layer of experts: gate and up [C, D], down [D, C]."""

    channels: int
    inner: int
    experts: int
    choices: int
    shared: int
    """Experts that every token goes to."""
    layers: int
    row: CopyBytes
    expert_bytes: float
    """Weights of one expert in one layer, scales included."""
    element: str
    """The format that rows and weights are multiplied in."""

    @property
    def flops(self) -> float:
        """Operations of one row through one expert."""
        return 6.0 * self.channels * self.inner

    @property
    def pair_bytes(self) -> float:
        """Bytes of one row there and back, without what routes it."""
        return float(self.row.out + self.row.back)


def expert_sizes(config: Config, machine: Machine, numerics: str = "deployed") -> ExpertSizes:
    """The sizes; `numerics` as the command line has it: reference is float32 throughout."""
    experts = config_number(config, "n_routed_experts")
    if not experts:
        raise UserError("placement.dense", model=config.family)
    channels = config_number(config, "hidden_size")
    inner = config_number(config, "moe_intermediate_size")
    element = "f32" if numerics == "reference" else _format(machine, "f8e4m3")
    back = (4 if numerics == "reference" else 2) * channels
    stored = _weight_format(config, machine, numerics)
    return ExpertSizes(
        channels=channels,
        inner=inner,
        experts=experts,
        choices=config_number(config, "num_experts_per_tok"),
        shared=config_number(config, "n_shared_experts"),
        layers=_expert_layers(config),
        row=CopyBytes(_row_bytes(element, channels), ROUTING, back),
        expert_bytes=_weight_bytes(stored, channels, inner),
        element=element,
    )


def _format(machine: Machine, wanted: str) -> str:
    """The format itself, or what legalize-formats makes of it."""
    options = legalize_options(machine)
    return wanted if wanted in options["stored"] else str(options["to"])


def _weight_format(config: Config, machine: Machine, numerics: str) -> str:
    if numerics == "reference":
        return "f32"
    return _format(machine, "f4e2m1" if config.values.get("expert_dtype") == "fp4" else "f8e4m3")


def _expert_layers(config: Config) -> int:
    """Layers with experts: all but the first dense ones."""
    dense = config_number(config, "first_k_dense_replace")
    return config_number(config, "num_hidden_layers") - dense


def _row_bytes(element: str, channels: int) -> int:
    scales = {"f8e4m3": -(-channels // BLOCK), "i8": 4}
    return int(WIDTHS[element] * channels) + scales.get(element, 0)


def _weight_bytes(element: str, channels: int, inner: int) -> float:
    weights = 3 * channels * inner
    scales = {
        "f4e2m1": weights / FP4_BLOCK,
        "f8e4m3": 3.0 * -(-channels // BLOCK) * -(-inner // BLOCK),
        "i8": 4.0 * (2 * inner + channels),  # a float32 for each output channel
    }
    return weights * WIDTHS.get(element, 0.5) + scales.get(element, 0.0)
