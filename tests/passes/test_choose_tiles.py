"""What `choose-tiles` leaves in a module, and its options."""

import pytest
from fusion_checks import apply, fused_of
from pass_checks import run, text_of

from supertile.ir.errors import UserError
from supertile.ir.tile_places import tile_spaces
from supertile.passes.choose_tiles import ChooseTiles
from supertile.passes.tile_sizes import SIZES, PhaseSizes
from supertile.passes.tiling import row_spaces, units_of

FUNCTION = """
(%x : tensor<?x64xf32> {graph.sizes = ["T"]}, %w : tensor<48x64xf32>) -> tensor<?x48xf32>
    %e = graph.exp %x : (tensor<?x64xf32>) -> tensor<?x64xf32>
    %y = graph.linear %e, %w : (tensor<?x64xf32>, tensor<48x64xf32>) -> tensor<?x48xf32>
    func.return %y : tensor<?x48xf32>
"""


def sizes_in(text):
    """The lines of numbers of the first function."""
    _, _, rest = text.partition("supertile.tiles = [")
    lines = rest.partition("]")[0].split("array<i64: ")[1:]
    return [PhaseSizes(*map(int, line.partition(">")[0].split(","))) for line in lines]


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ("", [PhaseSizes(16, 1, 1, 0), PhaseSizes(16, 64, 64)]),
        ("{force=test}", [PhaseSizes(2, 1, 1, 31), PhaseSizes(2, 23, 31)]),
        ("{tokens=1}", [PhaseSizes(1, 1, 1, 0), PhaseSizes(16, 64, 64)]),
        (
            "{operand=l1 operand_bytes=16384 accumulator=l0c accumulator_bytes=4096 vector=ub}",
            [PhaseSizes(16, 1, 1, 0), PhaseSizes(16, 64, 16)],
        ),
    ],
)
def test_sizes_of_each_phase(options, sizes):
    assert sizes_in(run(FUNCTION, f"choose-tiles{options}")[0]) == sizes


def test_only_attributes_change():
    text, _ = run(FUNCTION, "choose-tiles")
    assert [line for line in text.splitlines() if "graph." in line and "func" not in line] == [
        "    %e = graph.exp %x : (tensor<?x64xf32>) -> tensor<?x64xf32>",
        "    %y = graph.linear %e, %w : (tensor<?x64xf32>, tensor<48x64xf32>) -> tensor<?x48xf32>",
    ]


def test_the_module_names_the_spaces():
    module = fused_of("llama", "reference")
    apply(module, "choose-tiles{operand=l1 accumulator=l0c vector=ub}")
    spaces = tile_spaces(module)
    assert (spaces.operand, spaces.accumulator, spaces.vector) == ("l1", "l0c", "ub")


def test_there_is_a_line_for_each_phase():
    module = fused_of("small", "reference")
    apply(module, "choose-tiles")
    for function in module.ops:
        units = units_of(function, row_spaces(function))
        assert len(function.attributes[SIZES]) == sum(len(unit.phases) for unit in units)


def test_equal_input_gives_equal_text():
    once, again = fused_of("small", "deployed"), fused_of("small", "deployed")
    for module in (once, again):
        apply(module, "choose-tiles")
    assert text_of(once) == text_of(again)


def test_arrived_rows_are_the_tokens_unless_given():
    assert ChooseTiles(tokens=7).limits().arrived == 7
    assert ChooseTiles(tokens=7, arrived=9).limits().arrived == 9


def test_other_words_are_errors():
    with pytest.raises(UserError) as caught:
        run(FUNCTION, "choose-tiles{force=tests}")
    assert caught.value.code == "pass.option_value"
