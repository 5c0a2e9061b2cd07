"""Counts by keys that number them: layers, or iterations and layers; and ranks in names of files.

{"3": [..], "4": [..]}                              # layer -> counts of experts
{"0_3": [..], "0_4": [..], "1_3": [..]}             # iteration and layer, as TensorRT-LLM records
"""

from __future__ import annotations

import os
import re

import numpy as np

from supertile.targets.plan.load_arrays import Array, Held
from supertile.targets.plan.loads import ELEMENT_LIMIT, Table, check_rank
from supertile.targets.plan.model import ExpertLayers

NUMBER = "(?:0|[1-9][0-9]{0,8})"
LAYER = re.compile(NUMBER)
ITERATION_LAYER = re.compile(f"({NUMBER})_({NUMBER})")
RANK = re.compile(f"(?<![a-z])rank[_-]?({NUMBER})(?![0-9])")


def rank_of_file(file: str) -> str:
    """The rank that the name of a file says, `rank3.safetensors`; empty where it says none."""
    found = RANK.findall(os.path.basename(file).lower())
    return str(found[0]) if len(found) == 1 else ""


def is_by_layer(held: Held) -> bool:
    """Whether every key is the number of a layer."""
    return bool(held.values) and all(LAYER.fullmatch(str(key)) for key in held.values)


def by_layer(held: Held, model: ExpertLayers) -> Table:
    """A row for each key, in windows of time where the counts of a layer are a table."""
    layers = sorted(held.values, key=lambda key: int(str(key)))
    rows = [held.array(layer) for layer in layers]
    _check_alike(held, layers, rows, (1, 2))
    counts = np.stack(rows, axis=rows[0].ndim - 1)
    numbers = [int(str(layer)) for layer in layers]
    return Table(held.source, (), counts, numbers, rank=rank_of_file(held.source.file))


def is_by_iteration(held: Held) -> bool:
    """Whether every key is the number of an iteration and that of a layer."""
    return bool(held.values) and all(ITERATION_LAYER.fullmatch(str(key)) for key in held.values)


def by_iteration(held: Held, model: ExpertLayers) -> Table:
    """A window for each iteration; what has no key had no tokens, which a note says."""
    keys = list(held.values)
    pairs = [tuple(map(int, str(key).split("_"))) for key in keys]
    iterations, layers = (sorted({pair[at] for pair in pairs}) for at in (0, 1))
    if len(iterations) * len(layers) * model.experts > ELEMENT_LIMIT:
        raise held.source.fail("loads.elements", (), limit=ELEMENT_LIMIT)
    rows = [held.array(key) for key in keys]
    _check_alike(held, keys, rows, (1,))
    counts = np.zeros((len(iterations), len(layers), rows[0].shape[-1]), rows[0].dtype)
    for (iteration, layer), row in zip(pairs, rows, strict=True):
        counts[iterations.index(iteration), layers.index(layer)] = row
    lacking = len(iterations) * len(layers) - len(keys)
    note = f"{held.source.file} lacks {lacking} of its pairs of iteration and layer"
    return Table(
        held.source,
        (),
        counts,
        layers,
        windows=iterations,
        rank=rank_of_file(held.source.file),
        notes=(note,) if lacking else (),
    )


def _check_alike(held: Held, keys: list[str], rows: list[Array], axes: tuple[int, ...]) -> None:
    """That all are tables of numbers of one shape."""
    for key, row in zip(keys, rows, strict=True):
        check_rank(held.source, (key,), row, axes)
        if row.shape != rows[0].shape:
            expected, found = (str(list(one.shape)) for one in (rows[0], row))
            raise held.source.fail("loads.ragged", (key,), expected=expected, found=found)
