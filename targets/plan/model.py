"""Which layers of a model have routed experts, and how many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from supertile.ir.errors import UserError


class Config(Protocol):
    """What is read of a model's configuration (`frontend.hf_config.Config`)."""

    @property
    def family(self) -> str: ...

    @property
    def values(self) -> Mapping[str, object]: ...

    @property
    def layers(self) -> Sequence[Mapping[str, object]]: ...


@dataclass(frozen=True)
class ExpertLayers:
    """The mixture-of-experts layers of a model; draft layers are not among them."""

    family: str
    total: int
    """Main layers of the model, dense ones too."""
    moe: tuple[int, ...]
    """The numbers of those that have routed experts, ascending."""
    hashed: tuple[int, ...]
    """The numbers of those whose experts follow from the token id alone, by a table."""
    experts: int
    """Routed experts of a layer."""
    chosen: int
    """Experts that a token goes to in each layer."""
    vocabulary: int

    @property
    def dense(self) -> tuple[int, ...]:
        return tuple(layer for layer in range(self.total) if layer not in set(self.moe))


def expert_layers(config: Config) -> ExpertLayers:
    """Those of a configuration; `plan.dense` where it has none."""
    rows = enumerate(config.layers)
    experts = _count(config, "n_routed_experts")
    moe = [layer for layer, row in rows if row.get("feed_forward", "moe") == "moe"]
    if not experts or not moe:
        raise UserError("plan.dense", model=config.family)
    return ExpertLayers(
        family=config.family,
        total=len(config.layers),
        moe=tuple(moe),
        hashed=tuple(i for i, row in enumerate(config.layers) if row.get("router") == "hash_moe"),
        experts=experts,
        chosen=_count(config, "num_experts_per_tok"),
        vocabulary=_count(config, "vocab_size"),
    )


def _count(config: Config, key: str) -> int:
    value: Any = config.values.get(key, 0)
    return int(value)


def layers_text(layers: Sequence[int]) -> str:
    """`layer 4`, or `layers 0 to 2, 5`: numbers ascending, runs shortened."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(parts)}"
