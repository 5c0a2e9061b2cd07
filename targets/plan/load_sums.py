"""From the tables of files to the loads of a model: rows by layer, and files of ranks added up.

Sizes: W windows, L layers with routed experts, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from supertile.ir.errors import UserError
from supertile.targets.plan.load_rows import draft_note, row_layers
from supertile.targets.plan.loads import (
    ELEMENT_LIMIT,
    Array,
    Floats,
    Loads,
    Table,
    check_rank,
    check_values,
)
from supertile.targets.plan.model import ExpertLayers, layers_text

PAIR_ROUNDING = 1e-6  # relative: how far pairs may be from symmetric
SHOWN = 8
"""Files or ranks that a text lists before it counts the others."""


class _Part(NamedTuple):
    """What one file says of the model's layers."""

    table: Table
    counts: Floats
    """[W, L, E]"""
    pairs: Floats | None
    """[L, E, E]"""
    notes: tuple[str, ...]

    @property
    def file(self) -> str:
        return self.table.source.file


def loads_of(tables: Sequence[Table], model: ExpertLayers) -> Loads:
    """The tables, one of each file, added up as loads of the model's layers.

    Errors: `loads.rank`, `.rows`, `.experts`, `.value`, `.dense_rows`, `.layers`, `.pairs`,
    `.windows`, `.rank_twice`, `.no_counts`.
    """
    parts = [_part(table, model) for table in tables]
    _check_ranks(parts)
    counts = _summed(parts)
    file = parts[0].file
    source = file if len(parts) == 1 else f"{file} and {len(parts) - 1} more"
    empty = [
        layer for layer, row in zip(model.moe, counts.sum(axis=(0, 2)), strict=True) if not row
    ]
    if len(empty) == len(model.moe):
        raise tables[0].source.fail("loads.no_counts", tables[0].key)
    notes = [*_rank_notes(parts), *dict.fromkeys(note for part in parts for note in part.notes)]
    if empty:
        notes.append(f"{layers_text(empty)}: no counts in {source}")
    pairs = _pairs(parts)
    if pairs is None and any(part.pairs is not None for part in parts):
        notes.append("not all files have pairs of experts, so they are not used")
    return Loads(counts, model.moe, pairs, source, tuple(notes))


def _part(table: Table, model: ExpertLayers) -> _Part:
    check_rank(table.source, table.key, table.counts, (2, 3))
    check_values(table.source, table.key, table.counts)
    if table.counts.shape[-1] != model.experts:
        found = table.counts.shape[-1]
        raise table.source.fail("loads.experts", table.key, expected=model.experts, found=found)
    counts = np.asarray(table.counts, np.float64).reshape(-1, table.rows, model.experts)
    pairs = None if table.pairs is None else _checked_pairs(table, model.experts)
    numbers = row_layers(table, counts, model)
    rows = [numbers.index(layer) if layer in numbers else -1 for layer in model.moe]
    drafts = draft_note(numbers, model, table.source.file)
    return _Part(
        table,
        _rows(counts, rows, axis=1),
        None if pairs is None else _rows(pairs, rows, axis=0),
        (*table.notes, *drafts),
    )


def _rows(values: Floats, rows: Sequence[int], axis: int) -> Floats:
    """The rows along an axis; zeros for row -1."""
    taken: Floats = np.take(values, rows, axis=axis)
    lacking = np.asarray(rows) < 0
    taken[(slice(None),) * axis + (lacking,)] = 0
    return taken


# ---- files of several ranks


def _summed(parts: Sequence[_Part]) -> Floats:
    """[W, L, E]: windows of the same number added where files number them, else of the same
    place."""
    if len(parts) == 1:
        return parts[0].counts
    shape = parts[0].counts.shape
    numbers = [
        range(len(part.counts)) if part.table.windows is None else part.table.windows
        for part in parts
    ]
    if any(part.table.windows is None for part in parts):
        for part in parts:
            if len(part.counts) != shape[0] or part.table.windows is not None:
                first, found = (_windows_text(one.table, one.counts) for one in (parts[0], part))
                raise UserError(
                    "loads.windows",
                    file=part.file,
                    first=parts[0].file,
                    expected=first,
                    found=found,
                )
    every = sorted(set().union(*numbers))
    if len(every) * shape[1] * shape[2] > ELEMENT_LIMIT:
        raise parts[0].table.source.fail("loads.elements", (), limit=ELEMENT_LIMIT)
    total = np.zeros((len(every), *shape[1:]))
    for part, windows in zip(parts, numbers, strict=True):
        total[np.searchsorted(every, windows)] += part.counts
    return total


def _windows_text(table: Table, counts: Floats) -> str:
    numbered = "without numbers" if table.windows is None else "with numbers"
    return f"{len(counts)} windows {numbered}"


def _check_ranks(parts: Sequence[_Part]) -> None:
    """That no rank has the same window in two files."""
    seen: dict[tuple[str, int], str] = {}
    for part in parts:
        for window in part.table.windows or () if part.table.rank else ():
            first = seen.setdefault((part.table.rank, window), part.file)
            if first != part.file:
                raise UserError(
                    "loads.rank_twice",
                    file=part.file,
                    rank=part.table.rank,
                    window=window,
                    first=first,
                )


def _rank_notes(parts: Sequence[_Part]) -> list[str]:
    ranks = [part.table.rank for part in parts if part.table.rank]
    shown = ", ".join(ranks[:SHOWN]) + (f" and {len(ranks) - SHOWN} more" * (len(ranks) > SHOWN))
    if len(parts) > 1:
        return [f"{len(parts)} files are added up" + (f": ranks {shown}" if ranks else "")]
    return [f"{parts[0].file} has the counts of rank {shown} alone"] if ranks else []


# ---- pairs of experts


def _pairs(parts: Sequence[_Part]) -> Floats | None:
    """[L, E, E]: of all files, where all have them."""
    known = [part.pairs for part in parts if part.pairs is not None]
    if len(known) < len(parts):
        return None
    total: Floats = np.sum(known, axis=0) if len(known) > 1 else known[0]
    return total


def _checked_pairs(table: Table, experts: int) -> Floats:
    """[rows, E, E], symmetric; what the diagonal holds is dropped."""
    source, key = table.source, ("pairs",)
    pairs: Array = np.asarray(table.pairs)
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
