"""Loads of later steps run ahead where nothing forbids it and their copies fit."""

import pytest
from hypothesis import given, settings
from tile_checks import STORE_X, SUM, W, Y, drawn_texts, kernels_in, product, tiled

from supertile.ir import tile
from supertile.ir.errors import UserError
from supertile.ir.text import parse_module, print_module
from supertile.ir.tile_ahead import ops_ahead, overwritten
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import parse_pipeline


def stages_of(text, pipeline="pipeline-loops{stages=3}"):
    """The stages of the loops of a module after the pass."""
    module = tiled(text)
    run_passes(module, parse_pipeline(pipeline))
    return [op.stages.value.data for op in module.walk() if isinstance(op, tile.Loop)]


def test_before_and_after():
    """Nothing changes but the stages."""
    module = tiled(product())
    run_passes(module, parse_pipeline("pipeline-loops"))
    assert print_module(module, False) == print_module(tiled(product(stages=2)), False)


def test_loads_of_both_operands_run_ahead():
    (loop,) = [op for op in tiled(product()).walk() if isinstance(op, tile.Loop)]
    assert [op.name for op in ops_ahead(loop)] == ["tile.load", "tile.load"]
    assert overwritten(loop) is None
    assert stages_of(product()) == [3]


def test_a_load_behind_a_store_to_its_reference_stays():
    assert stages_of(product(STORE_X)) == [1]


@pytest.mark.parametrize(("l1", "stages"), [(9216, 3), (9215, 2), (6144, 2), (6143, 1), (0, 1)])
def test_as_many_stages_as_fit(l1, stages):
    """Tiles [16, 16] and [32, 16] in float32: 3072 bytes for each step in flight."""
    pipeline = f'pipeline-loops{{stages=3 memory="l1={l1}"}}'
    assert stages_of(product(), pipeline) == [stages]


def test_memory_of_the_module_holds_unless_another_is_given():
    limited = product(attributes=", supertile.tile_memory = {l1 = 6144 : i64}")
    assert stages_of(limited) == [2]
    assert stages_of(limited, 'pipeline-loops{stages=3 memory="l1=9216"}') == [3]


def test_loads_by_number_run_ahead_with_their_numbers():
    """A gather waits for its rows, which are loaded; what depends on the sum stays."""
    table = "!tile.ref<tensor<?xi32>>"
    rows = f"""%n = tile.load %numbers, %k {{axes = array<i64: 0>, pad = -1.0 : f64, space = "ub",
               operandSegmentSizes = array<i32: 1, 0, 1, 0>}} : ({table}, index) -> tensor<16xi32>
        %g = tile.gather %w, %n {{axes = array<i64>, pad = 0.0 : f64, space = "l1",
             operandSegmentSizes = array<i32: 1, 0, 1, 0, 0>}}
             : ({W}, tensor<16xi32>) -> tensor<16x64xf32>
        %c = tile.locate %new {{formula = "remainder"}} : ({SUM}) -> tensor<16xi32>
        %late = tile.gather %y, %c {{axes = array<i64>, pad = 0.0 : f64, space = "ub",
                operandSegmentSizes = array<i32: 1, 0, 1, 0, 0>}}
                : ({Y}, tensor<16xi32>) -> {SUM}"""
    text = product(rows).replace("%w: !tile", f"%numbers: {table}, %w: !tile")
    (loop,) = [
        op
        for op in tiled(text.replace("inputs = 2", "inputs = 3")).walk()
        if isinstance(op, tile.Loop)
    ]
    names = [op.results[0].name_hint for op in ops_ahead(loop)]
    assert names == ["a", "b", "n", "g"]


@pytest.mark.parametrize("memory", ["l1", "l1=x", "gm=5", "l1=5 l1=6"])
def test_memory_that_cannot_be_read(memory):
    with pytest.raises(UserError, match="each memory once with its bytes"):
        stages_of(product(), f'pipeline-loops{{memory="{memory}"}}')


def test_stages_are_at_least_one():
    with pytest.raises(UserError, match="an integer of at least 1"):
        stages_of(product(), "pipeline-loops{stages=0}")


@settings(max_examples=30, deadline=None)
@given(drawn_texts())
def test_every_loop_that_loads_has_the_stages(text):
    module = parse_module(text)
    run_passes(module, parse_pipeline("pipeline-loops{stages=2}"))
    for kernel in kernels_in(module):
        for op in kernel.walk():
            if isinstance(op, tile.Loop):
                assert op.stages.value.data == (2 if ops_ahead(op) else 1)
