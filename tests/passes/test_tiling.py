"""Row spaces, units and phases: how functions fall into kernels, and kernels into grids."""

import pytest
from fusion_checks import fused_of, graph_of
from kernel_of_op import CALL, argument, function_of

from supertile.ir import graph
from supertile.ir.types import DYNAMIC, f32, i32, tensor
from supertile.passes.tiling import WHOLE, has_columns, row_spaces, stored_values, units_of

PRODUCT = ["product"]
ROWS = ["rows"]
JOIN = ("join", ROWS)
NORM = ("rms_norm", ROWS)
LINEAR = ("linear", PRODUCT)
MIXING = ("mixing", ["rows", "product", "rows"])
EXPERTS = [
    "dispatch", "grouped_product", "grouped_product", "rows", "grouped_product", "combine",
]  # fmt: skip
SHARED = ["product", "product", "rows", "product"]
POOL = ["product", "product", "pool_windows", "rows", "append"]

# (config, function) -> its units and their phases
UNITS = {
    ("small", "layers_csa_score_router"): [
        MIXING,
        *(NORM, LINEAR, NORM, LINEAR, ("query_norm_rope", ROWS)),
        *(LINEAR, ("key_norm_rope", ROWS)),
        ("completed_windows", ["completed_windows"]),
        *(("compress", POOL), ("compress", POOL)),
        *(LINEAR, ("query_rope", ROWS), LINEAR),
        ("index_select", ["rows", "columns"]),
        ("attention", ["append", "window_index", "attend", "rows"]),
        *(("einsum", ["einsum_product"]), LINEAR, JOIN),
        *(MIXING, NORM, ("router", ["product", "rows"])),
        *(("experts", EXPERTS), ("shared_expert", SHARED), JOIN),
    ],
    ("llama", "layers"): [
        *(NORM, LINEAR, ("query_rope", ROWS), LINEAR, ("key_rope", ROWS), LINEAR),
        ("attention", ["append", "rows", "append", "attend", "rows"]),
        *(LINEAR, ("add_norm", ROWS), ("feed_forward", SHARED), ("add", ROWS)),
    ],
    ("v3", "logits"): [("gather", ROWS), ("cast", ROWS), NORM, LINEAR],
}


def function_in(module, name):
    return next(op for op in module.ops if op.sym_name.data == name)


@pytest.mark.parametrize(("config", "name"), UNITS)
def test_units_and_phases(config, name):
    function = function_in(fused_of(config, "reference"), name)
    found = list(units_of(function, row_spaces(function)))
    assert [(unit.kind, [p.kind for p in unit.phases]) for unit in found] == UNITS[config, name]


def test_row_spaces_of_a_layer():
    """Tokens, the windows that they complete, and rows sorted by expert."""
    function = function_in(fused_of("small", "reference"), "layers_csa_score_router")
    spaces = row_spaces(function)
    found = {u.kind: [p.space for p in u.phases] for u in units_of(function, spaces)}
    assert found["compress"] == ["T", "T", "T", "windows4", "windows4"]
    assert found["experts"] == ["T", *["T*3"] * 5]
    states = [a for a in function.body.block.args if "graph.state" in _attributes(a)]
    assert states and all(spaces[state] == WHOLE for state in states)


def _attributes(argument):
    return argument.block.parent_op().arg_attrs.data[argument.index].data


def test_each_op_is_in_one_phase():
    for function in fused_of("small", "reference").ops:
        for unit in units_of(function, row_spaces(function)):
            held = [op for phase in unit.phases for op in phase.ops]
            assert len(held) == len(set(held))
            assert set(held) <= set(unit.ops)


def test_without_groups_each_op_is_a_unit():
    function = function_in(graph_of("llama", "reference"), "layers")
    units = list(units_of(function, row_spaces(function)))
    assert all(unit.ops == [unit.op] and len(unit.phases) == 1 for unit in units)
    assert "reshape" not in {unit.kind for unit in units}, "a view needs no kernel"


def test_values_for_later_phases_are_stored():
    function = function_in(fused_of("llama", "reference"), "layers")
    spaces = row_spaces(function)
    unit = next(u for u in units_of(function, spaces) if u.kind == "feed_forward")
    made = [[value.op.name for value in stored_values(p, unit)] for p in unit.phases]
    assert made == [["graph.linear"], ["graph.linear"], ["graph.multiply"], ["graph.linear"]]


def test_scores_of_the_entries_of_a_state_have_columns():
    """The last axis of what is made of them is long, until a selection ends it."""

    def body(q, keys, weight, sequence, position, length):
        score = graph.create(graph.Einsum, [[q, keys], [sequence]], equation="thc,bsc->ths")
        rectified = graph.create(graph.Relu, [score.result])
        total = graph.create(graph.ReduceSum, [rectified.result], axis=1)
        best = graph.create(graph.TopK, [total.result, []], k=2)
        mean = graph.create(graph.Multiply, [weight, weight])
        return [score, rectified, total, best, mean], [best.result, mean.result]

    heads = tensor([DYNAMIC, 3, 4], f32)
    entries = tensor([DYNAMIC, DYNAMIC, 4], f32)
    arguments = [argument(heads, "T"), argument(entries, "B"), argument(heads, "T"), *CALL]
    function = function_of(arguments, body)
    *ops, _ = function.body.block.ops
    assert [has_columns(op.results[0]) for op in ops] == [True, True, True, False, False]
    units = list(units_of(function, row_spaces(function)))
    assert [u.phases[0].kind for u in units] == ["columns", "columns", "columns", "columns", "rows"]


def test_tables_have_no_rows():
    def body(table, ids):
        made = graph.create(graph.Gather, [table, ids])
        return [made], made.results

    arguments = [argument(tensor([9, 4], f32), "V"), argument(tensor([DYNAMIC], i32), "T")]
    function = function_of(arguments, body)
    table, ids = function.body.block.args
    spaces = row_spaces(function)
    (op, _) = function.body.block.ops
    assert (spaces[table], spaces[ids], spaces[op.result]) == (WHOLE, "T", "T")
