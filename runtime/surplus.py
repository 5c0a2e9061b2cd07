"""Tensors of a checkpoint that a model has no place for: layers or experts beyond its config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from supertile.ir.errors import UserError
from supertile.runtime.checkpoint import Checkpoint
from supertile.runtime.plan import ModulePlan
from supertile.runtime.tensor_names import PLACEHOLDERS, pattern_of

LAYER, EXPERT = PLACEHOLDERS
SHOWN = 8


class Use(NamedTuple):
    """In which layers a model has a tensor, and of how many experts; 0: of none."""

    layers: frozenset[int]
    experts: int = 0


def check_surplus(checkpoint: Checkpoint, plan: ModulePlan, drafts: int = 0) -> None:
    """Raises `checkpoint.surplus` where tensors look like the model's, and no entry has them.

    So many layers behind the last one may hold `drafts`. What has another form belongs to another
    part of the release, and is passed over.
    """
    uses = _uses(plan)
    last = max((layer for use in uses.values() for layer in use.layers), default=-1)
    surplus = list(_surplus(checkpoint, uses, range(last + 1, last + 1 + drafts)))
    if not surplus:
        return
    layers = sorted({int(pattern_of(name)[1][0]) for name in surplus})
    raise UserError(
        "checkpoint.surplus",
        file=checkpoint.folder,
        count=len(surplus),
        names=_shortened(surplus, 3),
        layers=_shortened([str(layer) for layer in layers], SHOWN),
        last=last + 1,
    )


def _surplus(checkpoint: Checkpoint, uses: Mapping[str, Use], drafted: range) -> Iterator[str]:
    forms = {_stored_form(checkpoint, name): use for name, use in uses.items() if LAYER in name}
    for name in checkpoint.names():
        form, numbers = pattern_of(name)
        use = forms.get(form)
        if use is None:
            continue
        shape = checkpoint.stored_shape(name)
        experts = int(numbers[1]) + 1 if EXPERT in form else 0
        if EXPERT not in form and use.experts and shape:
            experts = shape[0]  # experts are the first axis of one tensor
        layer = int(numbers[0])
        if (layer not in use.layers and layer not in drafted) or experts > use.experts:
            yield name


def _stored_form(checkpoint: Checkpoint, name: str) -> str:
    """The form of the stored names of a tensor: `layers.{l}.ffn.experts.{e}.w1.weight`."""
    filled = name.replace(LAYER, "0").replace(EXPERT, "0")
    return pattern_of(checkpoint.dialect.stored(filled).name)[0]


def _uses(plan: ModulePlan) -> dict[str, Use]:
    """By name in the model file, where all entries of a plan read a tensor."""
    uses: dict[str, Use] = {}
    for use, layers in (pair for entry in plan.entries for pair in plan.weights_of(entry)):
        before = uses.get(use.pattern, Use(frozenset()))
        experts = 0
        if use.is_stacked:
            placed = use.placement
            experts = use.kind.get_shape()[0] if placed is None else placed.experts
        uses[use.pattern] = Use(before.layers | set(layers), max(before.experts, experts))
    return uses


def _shortened(words: list[str], count: int) -> str:
    return ", ".join(words[:count]) + (", ..." if len(words) > count else "")
