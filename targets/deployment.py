"""Deployments: how a model is spread over a machine; and their text, as `--deploy` takes it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, Protocol

from supertile.ir.errors import UserError
from supertile.ir.expert_layer import ExpertLayer

Phase = Literal["prefill", "decode"]

CACHES = {"bf16": "bf16", "fp8": "f8e4m3"}
"""Format of cached entries -> the format that the machine must store for it."""


class Config(Protocol):
    """What is read of a model's configuration (`frontend.hf_config.Config`)."""

    @property
    def family(self) -> str: ...

    @property
    def values(self) -> Mapping[str, object]: ...


@dataclass(frozen=True)
class Model:
    """What is known of a model that is deployed; its experts are those of its module."""

    family: str
    values: Mapping[str, object]
    """Keys of the configuration; none of them is about experts."""
    experts: ExpertLayer | None
    """None: the model is dense."""

    @staticmethod
    def of(config: Config, experts: ExpertLayer | None) -> Model:
        return Model(config.family, config.values, experts)

    @property
    def expert_layer(self) -> ExpertLayer:
        """Its experts; `placement.dense` where it has none."""
        if self.experts is None:
            raise UserError("placement.dense", model=self.family)
        return self.experts

    def size(self, key: str) -> int:
        """A size of the configuration; 0 if it has none."""
        value = self.values.get(key)
        return value if isinstance(value, int) else 0


@dataclass(frozen=True)
class Deployment:
    """Attention runs on `dp` groups of `tp` ranks, the experts on `ep` ranks; a rank is a device.

    The ranks of one group work on the same sequences. With ep > 1 the ranks of both are the same,
    ep = tp * dp; with ep = 1 each group has every expert and slices it over its tp ranks.
    """

    phase: Phase
    ep: int
    tp: int
    dp: int
    batch: int
    """Sequences that a rank works on: `batch * dp` in all."""
    context: int
    """Tokens a sequence: those in the cache (decode), or the whole prompt (prefill)."""
    chunk: int | None
    """Prefill: prompt tokens of a sequence in one call; None: the whole prompt."""
    slots: tuple[int, ...] | None
    """Experts, replicas counted, that each of the ep ranks holds; None: see `expert_slots`."""
    mtp: float | None
    """Decode: draft tokens accepted a step, on average; None: the draft layers do not run."""
    cache: str
    """Format of the cached entries, a key of `CACHES`."""

    @property
    def ranks(self) -> int:
        """Devices that the deployment takes."""
        return max(self.ep, self.tp * self.dp)


def expert_slots(deployment: Deployment, model: Model) -> tuple[int, ...]:
    """Slots of each of the ep ranks; by default the fewest of one number that hold every expert."""
    if model.experts is None:
        return ()
    return deployment.slots or (-(-model.experts.experts // deployment.ep),) * deployment.ep


def deployment_text(deployment: Deployment) -> str:
    """The text that `parse_deployment` reads as this deployment: every key that has a value."""
    values = {field.name: getattr(deployment, field.name) for field in fields(Deployment)}
    given = {key: value for key, value in values.items() if value is not None}
    return " ".join(f"{key}={value_text(value)}" for key, value in given.items())


def value_text(value: object) -> str:
    if isinstance(value, tuple):
        runs = [(slots, len([*ranks])) for slots, ranks in itertools.groupby(value)]
        same = f"{value[0]}/rank" if value else ""
        return same if len(runs) < 2 else ",".join(f"{slots}x{ranks}" for slots, ranks in runs)
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
