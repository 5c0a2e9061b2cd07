"""Which layers of a model have routed experts, and how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supertile.ir.errors import UserError
from supertile.targets.deploy import Model


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
    table: str = ""
    """The checkpoint's name of the table that `hashed` layers follow, with {l} for the layer."""
    drafts: int = 0
    """Draft layers, numbered behind the main ones."""

    @property
    def dense(self) -> tuple[int, ...]:
        return tuple(layer for layer in range(self.total) if layer not in set(self.moe))

    @property
    def draft_numbers(self) -> tuple[int, ...]:
        return tuple(range(self.total, self.total + self.drafts))

    @property
    def every_number(self) -> range:
        """Of main and draft layers."""
        return range(self.total + self.drafts)


def expert_layers(model: Model) -> ExpertLayers:
    """Those of a model; `plan.dense` where it has none."""
    layer, vocabulary = model.experts, model.values.get("vocab_size")
    if layer is None:
        raise UserError("plan.dense", model=model.family)
    return ExpertLayers(
        family=model.family,
        total=layer.main_layers,
        moe=layer.numbers,
        hashed=layer.hashed,
        experts=layer.experts,
        chosen=layer.choices,
        vocabulary=vocabulary if isinstance(vocabulary, int) else 0,
        table=layer.table,
        drafts=model.size("num_nextn_predict_layers"),
    )


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
