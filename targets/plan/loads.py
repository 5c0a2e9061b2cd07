"""Expert loads: how many tokens each expert of each layer got, in windows of time.

Sizes: W windows, L layers with routed experts, E experts. What files hold is in `load_tables`,
how they are opened in `load_files`; here is what all of them must fulfil.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir.json_text import JsonSource, Steps
from supertile.targets.plan.model import ExpertLayers, layers_text

Floats = NDArray[np.float64]
Array = NDArray[Any]

COUNT_LIMIT = 1e18  # a larger count is a mistake, and sums of them lose their meaning
ELEMENT_LIMIT = 2**26  # numbers in a table: 2,800 windows of 61 layers of 384 experts
PAIR_ROUNDING = 1e-6  # relative: how far pairs may be from symmetric


@dataclass(frozen=True, eq=False)
class Loads:
    """`counts` [W, L, E]: tokens of each expert; only their proportions in a layer matter."""

    counts: Floats
    layers: tuple[int, ...]
    """The absolute number of each of the L layers: all that have routed experts."""
    pairs: Floats | None
    """[L, E, E]: tokens that chose both experts; symmetric, the diagonal 0."""
    source: str
    """The file or the text that they come from."""
    notes: tuple[str, ...] = ()
    """What the reader of a plan should know: layers without counts, tables made up."""

    @property
    def windows(self) -> int:
        return len(self.counts)

    @property
    def total(self) -> Floats:
        """[L, E]: over all windows."""
        total: Floats = self.counts.sum(axis=0)
        return total


@dataclass(frozen=True)
class Table:
    """Counts as a file has them, [rows, E] or [W, rows, E], before they are held against a model.

    `key` is where the file has them. `layers` numbers the rows where the file does.
    """

    source: JsonSource
    key: Steps
    counts: Array
    layers: Sequence[float] | None = None
    pairs: Array | None = None
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return int(self.counts.shape[-2])


def loads_of(table: Table, model: ExpertLayers) -> Loads:
    """The table as loads of the model's layers.

    Rows are for all layers of the model, dense ones being zero, or for those with experts, or
    for the layers that the table names. Errors: `loads.rank`, `.rows`, `.experts`, `.value`,
    `.dense_rows`, `.layers`, `.pairs`, `.no_counts`.
    """
    check_rank(table.source, table.key, table.counts, (2, 3))
    check_values(table.source, table.key, table.counts)
    if table.counts.shape[-1] != model.experts:
        found = table.counts.shape[-1]
        raise table.source.fail("loads.experts", table.key, expected=model.experts, found=found)
    counts = np.asarray(table.counts, np.float64).reshape(-1, table.rows, model.experts)
    pairs = None if table.pairs is None else _checked_pairs(table, model.experts)
    numbers = _numbers(table, counts, model)
    rows = [numbers.index(layer) if layer in numbers else -1 for layer in model.moe]
    counts = _rows(counts, rows, axis=1)
    empty = [
        layer for layer, row in zip(model.moe, counts.sum(axis=(0, 2)), strict=True) if not row
    ]
    if len(empty) == len(model.moe):
        raise table.source.fail("loads.no_counts", table.key)
    notes = (f"{layers_text(empty)}: no counts in {table.source.file}",) if empty else ()
    return Loads(
        counts=counts,
        layers=model.moe,
        pairs=None if pairs is None else _rows(pairs, rows, axis=0),
        source=table.source.file,
        notes=(*table.notes, *notes),
    )


def _rows(values: Floats, rows: Sequence[int], axis: int) -> Floats:
    """The rows along an axis; zeros for row -1."""
    taken: Floats = np.take(values, rows, axis=axis)
    lacking = np.asarray(rows) < 0
    taken[(slice(None),) * axis + (lacking,)] = 0
    return taken


def _numbers(table: Table, counts: Floats, model: ExpertLayers) -> list[int]:
    """The absolute layer of each row; dense layers of a full table must be rows of zeros."""
    if table.layers is not None:
        return _named(table, model)
    if table.rows == len(model.moe):
        return list(model.moe)
    if table.rows != model.total:
        sizes = f"{len(model.moe)} rows, one for each layer with experts"
        if model.dense:
            sizes += f", or {model.total} with rows of zeros for {layers_text(model.dense)}"
        raise table.source.fail("loads.rows", table.key, expected=sizes, found=table.rows)
    loaded = [layer for layer in model.dense if counts[:, layer].any()]
    if loaded:
        dense = layers_text(model.dense)
        raise table.source.fail("loads.dense_rows", table.key, dense=dense, found=loaded[0])
    return list(range(model.total))


def _named(table: Table, model: ExpertLayers) -> list[int]:
    """The numbers that the table gives, each a layer with experts and none twice."""
    numbers = table.layers or ()
    source, key = table.source, ("layers",)
    if len(numbers) != table.rows:
        expected = f"{table.rows} numbers, one for each row of the counts"
        raise source.fail("loads.layers", key, expected=expected, found=f"{len(numbers)} numbers")
    known = f"{layers_text(model.moe)} of this model, each once at most"
    seen: set[int] = set()
    for index, number in enumerate(numbers):
        if number not in model.moe or number in seen:
            found = f"layer {number:g}" + (" again" if number in seen else "")
            raise source.fail("loads.layers", (*key, index), expected=known, found=found)
        seen.add(int(number))
    return [int(number) for number in numbers]


def check_rank(source: JsonSource, key: Steps, values: Array, ranks: Sequence[int]) -> None:
    """That a table of numbers has one of the numbers of axes, none of them empty."""
    if values.dtype.kind not in "iufb" or values.dtype.kind == "b":
        raise source.fail("loads.numbers", key, found=f"{values.dtype}")
    shape = list(values.shape)
    if values.ndim not in ranks or 0 in shape:
        forms = {1: "a list", 2: "[layers][experts]", 3: "[windows][layers][experts]"}
        expected = " or ".join(forms[rank] for rank in ranks)
        raise source.fail("loads.rank", key, expected=expected, found=f"{shape}")


def check_values(source: JsonSource, key: Steps, values: Array) -> None:
    """That all are numbers from 0 on, finite and no larger than `COUNT_LIMIT`."""
    wrong = ~((values >= 0) & (values <= COUNT_LIMIT))
    if not wrong.any():
        return
    at = tuple(int(index) for index in np.unravel_index(int(wrong.argmax()), values.shape))
    found, others = values[at], int(wrong.sum()) - 1
    more = f", and {others} more" if others else ""
    raise source.fail("loads.value", (*key, *at), limit=COUNT_LIMIT, found=f"{found:g}{more}")


def _checked_pairs(table: Table, experts: int) -> Floats:
    """[rows, E, E], symmetric; what the diagonal holds is dropped."""
    source, key = table.source, ("pairs",)
    pairs = np.asarray(table.pairs)
    expected = [table.rows, experts, experts]
    if pairs.dtype.kind not in "iuf" or list(pairs.shape) != expected:
        found = f"{list(pairs.shape)} of {pairs.dtype}"
        raise source.fail("loads.pairs", key, expected=f"numbers {expected}", found=found)
    check_values(source, key, pairs)
    pairs = pairs.astype(np.float64)
    mirrored = np.swapaxes(pairs, 1, 2)
    wrong = np.abs(pairs - mirrored) > PAIR_ROUNDING * np.maximum(pairs, mirrored)
    if wrong.any():
        at = tuple(int(index) for index in np.unravel_index(int(wrong.argmax()), pairs.shape))
        found = f"{pairs[at]:g}, and {mirrored[at]:g} with both experts exchanged"
        expected_text = "as many tokens with experts i and j as with j and i"
        raise source.fail("loads.pairs", (*key, *at), expected=expected_text, found=found)
    pairs[:, np.arange(experts), np.arange(experts)] = 0
    return pairs
