"""Which layer of the model each row of a table of counts is of.

Files have rows for all layers, dense ones being zero, or for those with experts alone, or for those
whose experts are chosen by a router; rows of draft layers may stand behind them; or they number
their rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from supertile.targets.plan.loads import Floats, Table
from supertile.targets.plan.model import ExpertLayers, layers_text


class _Form(NamedTuple):
    """Rows that a file may have: the layer of each, and in words."""

    layers: tuple[int, ...]
    text: str


def row_layers(table: Table, counts: Floats, model: ExpertLayers) -> list[int]:
    """The number of the layer of each row of counts [W, rows, E].

    Errors: `loads.layers`, `loads.rows`, and `loads.dense_rows` where a dense layer has counts.
    """
    numbers = _named(table, model) if table.layers is not None else _by_length(table, model)
    dense = set(model.dense)
    for row, layer in enumerate(numbers):
        if layer in dense and counts[:, row].any():
            told = layers_text(model.dense)
            raise table.source.fail("loads.dense_rows", table.key, dense=told, found=layer)
    return numbers


def draft_note(numbers: Sequence[int], model: ExpertLayers, file: str) -> tuple[str, ...]:
    """That rows of draft layers are left out, where there are any."""
    drafts = [layer for layer in numbers if layer in model.draft_numbers]
    if not drafts:
        return ()
    return (f"{layers_text(drafts)} of {file}: of drafts, which are not planned for",)


def _by_length(table: Table, model: ExpertLayers) -> list[int]:
    forms = list(_forms(model))
    fitting = next((form for form in forms if len(form.layers) == table.rows), None)
    if fitting is None:
        told: dict[int, str] = {}
        for form in forms:
            told.setdefault(len(form.layers), f"{len(form.layers)} {form.text}")
        expected = ", or ".join(told.values())
        raise table.source.fail("loads.rows", table.key, expected=expected, found=table.rows)
    return list(fitting.layers)


def _forms(model: ExpertLayers) -> Iterator[_Form]:
    """The likelier of two that have as many rows comes first."""
    yield _Form(model.moe, "rows, one for each layer with experts")
    every, drafts = tuple(range(model.total)), model.draft_numbers
    zeros = f"with rows of zeros for {layers_text(model.dense)}" if model.dense else ""
    if model.dense:
        yield _Form(every, zeros)
    if drafts:
        behind = f"with {layers_text(drafts)} of drafts behind them"
        yield _Form((*model.moe, *drafts), behind)
        if model.dense:
            yield _Form((*every, *drafts), f"{zeros} and {layers_text(drafts)} of drafts")
    routed = tuple(layer for layer in model.moe if layer not in model.hashed)
    if model.hashed and routed:
        without = f"without {layers_text(model.hashed)}, which choose by token id"
        yield _Form(routed, without)
        if drafts:
            yield _Form((*routed, *drafts), f"{without}, with {layers_text(drafts)} of drafts")


def _named(table: Table, model: ExpertLayers) -> list[int]:
    """The numbers that the table gives, each of a layer of the model and none twice."""
    numbers = table.layers or ()
    source, key = table.source, ("layers",)
    if len(numbers) != table.rows:
        expected = f"{table.rows} numbers, one for each row of the counts"
        raise source.fail("loads.layers", key, expected=expected, found=f"{len(numbers)} numbers")
    known = f"{layers_text(model.moe)} of this model, each once at most"
    seen: set[int] = set()
    for index, number in enumerate(numbers):
        if number not in model.every_number or number in seen:
            found = f"layer {number:g}" + (" again" if number in seen else "")
            raise source.fail("loads.layers", (*key, index), expected=known, found=found)
        seen.add(int(number))
    return [int(number) for number in numbers]
