"""Tables with a row for each op, dialect of configs or model have all, and say what they lack."""

from pathlib import Path

import pytest
from xdsl.dialects.test import TestOp

from supertile.cli.inputs import shipped_models
from supertile.cli.op_support import PUBLISHED
from supertile.frontend.families import DIALECTS
from supertile.frontend.families.common import FAMILY_SIZES, HEAD_WEIGHTS
from supertile.frontend.families.small import REPAIRS, SMALL_SIZES, SPLIT_SIZES
from supertile.frontend.functions import UNARY
from supertile.ir import comm, graph, shapes, work
from supertile.ir.op import shape_of
from supertile.ir.tables import MissingRowError, Table
from supertile.ir.tile_places import ELEMENTWISE
from supertile.ir.types import f32, tensor
from supertile.ir.work import work_of
from supertile.passes.axis_links import LINKS, links_of
from supertile.passes.feed_forward import ACTIVATIONS, POINTWISE
from supertile.runtime import comm_ops, graph_ops

ROOT = Path(__file__).parents[2]
EXCHANGED = (comm.Dispatch, comm.Combine)
STRUCTURE = (graph.Layers, graph.Fused, graph.Yield)
DECLARED = (graph.Constant, graph.Weight)

# Table -> the rows that it must have, and may have.
TABLES: dict[str, tuple[Table, set[object]]] = {
    "shape rules": (shapes.RULES, {*graph.OPS, *comm.OPS} - {graph.Fused, graph.Yield}),
    "work rules": (work.WORK, {*graph.OPS, *comm.OPS} - {*STRUCTURE}),
    "functions": (graph_ops.FUNCTIONS, {*graph.OPS} - {*STRUCTURE, *DECLARED}),
    "exact functions": (graph_ops.EXACT_FUNCTIONS, {*graph_ops.FUNCTIONS}),
    "functions of ranks": (comm_ops.FUNCTIONS, {*comm.OPS}),
    "exchanges": (comm_ops.EXCHANGES, {*EXCHANGED}),
    "links": (LINKS, {*graph.OPS}),
    "sizes of families": (FAMILY_SIZES, {*DIALECTS}),
    "head weights": (HEAD_WEIGHTS, {*DIALECTS}),
    "small sizes": (SMALL_SIZES, {*DIALECTS}),
    "split sizes": (SPLIT_SIZES, {*DIALECTS}),
    "repairs": (REPAIRS, {*DIALECTS}),
    "published configs": (PUBLISHED, {*shipped_models()}),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_every_row_and_no_other(name: str) -> None:
    table, rows = TABLES[name]
    assert isinstance(table, Table)
    assert {*table} == rows


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_row_is_told_with_table_and_file(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = TABLES[name][0]
    row = next(iter(table))
    monkeypatch.delitem(table, row)
    with pytest.raises(MissingRowError) as caught:
        table[row]
    assert f"{table.name} of {table.file}" in str(caught.value)
    assert (ROOT / table.file).is_file()


def test_pointwise_ops_are_elementwise_on_tiles_and_every_unary_function_is_one() -> None:
    assert {*POINTWISE} <= {*ELEMENTWISE}
    assert {*UNARY.values()} - {graph.Negate} == {*ACTIVATIONS}


def gelu() -> graph.Gelu:
    kind = tensor([4, 8], f32)
    return graph.Gelu.create(operands=[TestOp(result_types=[kind]).results[0]], result_types=[kind])


def test_an_op_without_a_row_is_an_error_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cost, slicing and shapes: none of them takes an op that it knows nothing of for free."""
    op = gelu()
    assert tuple(shape_of(op.result)) == (4, 8)
    for table, ask in (
        (work.WORK, work_of),
        (LINKS, links_of),
        (shapes.RULES, shapes.infer_results),
    ):
        monkeypatch.delitem(table, graph.Gelu)
        with pytest.raises(MissingRowError, match=r"graph\.gelu"):
            ask(op)
