"""Loads made from a law and a seed.

All is seeded by (seed, layer), so a layer has the same loads whatever other layers there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from supertile.ir import portable_math
from supertile.ir.errors import UserError
from supertile.runtime.checkpoint import Checkpoint, Format
from supertile.targets.plan.load_text import LoadsText
from supertile.targets.plan.loads import Loads
from supertile.targets.plan.model import ExpertLayers, layers_text
from supertile.targets.plan.routings import check_experts, hash_layer_loads

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Tables = Mapping[int, Integers]
"""Layer -> [V, K]: the experts of each token id."""

TOKENS = 1_000_000  # of a window: loads are for so many
# What a random generator is for, beside seed and layer.
LOADS, TABLE, WORDS = 1, 2, 3


def parametric_loads(text: LoadsText, model: ExpertLayers, tables: Tables | None = None) -> Loads:
    """The loads that a text describes.

    Each layer has a permutation of its own. With `tokens`, layers that choose by token id have
    what the frequency of the ids gives, by their table, or by a made-up one where none is given.
    """
    counts = np.stack([_layer(text, model, layer) for layer in model.moe], axis=1)
    loads = Loads(counts, model.moe, None, str(text))
    if text.tokens is not None:
        return with_hashed(loads, model, text, tables)
    if not model.hashed:
        return loads
    note = f"{layers_text(model.hashed)}: chosen by token id, loads by the law of all ({text})"
    return replace(loads, notes=(note,))


def with_hashed(
    loads: Loads, model: ExpertLayers, text: LoadsText, tables: Tables | None = None
) -> Loads:
    """The loads, with those of the layers that choose by token id from the frequency of the ids.

    As many windows as the loads have; `text` gives the exponent, the seed and the drift.
    """
    counts = loads.counts.copy()
    notes = list(loads.notes)
    frequency = token_frequency(replace(text, windows=loads.windows), model.vocabulary)
    made = [layer for layer in model.hashed if layer not in (tables or {})]
    for layer in model.hashed:
        table = made_table(text.seed, layer, model) if layer in made else (tables or {})[layer]
        for window, weights in enumerate(frequency):
            counts[window, loads.layers.index(layer)] = _weighed(table, weights, model.experts)
    if model.hashed:
        where = f"{layers_text(model.hashed)}: chosen by token id"
        notes.append(f"{where}, ids by Zipf's law with exponent {text.tokens or 0.0:g}")
    if made:
        notes.append(f"{layers_text(made)}: table of token ids made up, seed {text.seed}")
    return replace(loads, counts=counts, notes=tuple(notes))


def with_token_ids(
    loads: Loads, model: ExpertLayers, rows: Sequence[Integers], tables: Tables
) -> Loads:
    """The loads, with those of the layers that choose by token id from the ids of sequences.

    Errors: `loads.no_hashed` where no layer is routed so, `loads.no_tables` where the checkpoint
    has no table, `loads.token_id`.
    """
    if not model.hashed:
        raise UserError("loads.no_hashed", model=model.family)
    held = [layer for layer in model.hashed if layer in tables]
    if not held:
        raise UserError("loads.no_tables", name=model.table.replace("{l}", "N"))
    ids = np.concatenate([np.asarray(row, np.int64).ravel() for row in rows])
    counts = loads.counts.copy()
    for layer in held:
        counts[:, loads.layers.index(layer)] = hash_layer_loads(tables[layer], ids, model.experts)
    about = f"{layers_text(held)}: chosen by token id"
    others = [note for note in loads.notes if not note.startswith(about)]
    note = f"{about}, loads of {len(ids):,} tokens by the table"
    return replace(loads, counts=counts, notes=(*others, note))


def _layer(text: LoadsText, model: ExpertLayers, layer: int) -> Floats:
    """[W, E]: one layer."""
    random = np.random.default_rng([text.seed, layer, LOADS])
    if text.law == "lognormal":
        first = np.asarray(text.value * random.standard_normal(model.experts), np.float64)
    else:
        ranks = random.permutation(model.experts) + 1.0
        first = -text.value * portable_math.log(ranks)
    return _windows(first, text, random) * TOKENS * model.chosen


def _windows(first: Floats, text: LoadsText, random: np.random.Generator) -> Floats:
    """[W, n]: parts of 1 from logarithms [n], which wander from window to window."""
    steps = text.drift * random.standard_normal((text.windows, len(first)))
    steps[0] = 0
    logs = first + np.cumsum(steps, axis=0)
    weights = portable_math.exp(logs - logs.max(axis=1, keepdims=True))
    parts: Floats = weights / weights.sum(axis=1, keepdims=True)
    return parts


def token_frequency(text: LoadsText, vocabulary: int) -> Floats:
    """[W, V]: the part of each token id, by Zipf's law with the exponent `tokens`."""
    random = np.random.default_rng([text.seed, 0, WORDS])
    ranks = random.permutation(vocabulary) + 1.0
    return _windows(-(text.tokens or 0.0) * portable_math.log(ranks), text, random)


def _weighed(table: Integers, weights: Floats, experts: int) -> Floats:
    """[E]: loads under the frequency [V] of the token ids."""
    each = np.repeat(weights, table.shape[1])
    loads: Floats = np.bincount(table.ravel(), each, experts).astype(np.float64) * TOKENS
    return loads


def made_table(seed: int, layer: int, model: ExpertLayers) -> Integers:
    """[V, K]: different experts for each token id, at random."""
    random = np.random.default_rng([seed, layer, TABLE])
    table = random.integers(model.experts, size=(model.vocabulary, model.chosen))
    while (twice := _repeats(table)).any():
        table[twice] = random.integers(model.experts, size=(int(twice.sum()), model.chosen))
    return table


def _repeats(table: Integers) -> NDArray[np.bool_]:
    ordered = np.sort(table, axis=1)
    repeated: NDArray[np.bool_] = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    return repeated


def hash_tables(checkpoint: Checkpoint, model: ExpertLayers) -> dict[int, Integers]:
    """The tables of token ids that a checkpoint has; `loads.chosen` where one is impossible."""
    shape = (model.vocabulary, model.chosen)
    tables = {}
    for layer in model.hashed:
        name = model.table.replace("{l}", str(layer))
        if not checkpoint.has(name):
            continue
        table = np.asarray(checkpoint.tensor(name, shape, Format("i64")))
        check_experts(table, model.experts, f"the table {name}")
        tables[layer] = table
    return tables
