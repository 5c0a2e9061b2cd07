"""Slices of weights and states: who has which, and the text."""

import pytest
from hypothesis import given, strategies as st
from xdsl.utils.exceptions import VerifyException

from supertile.ir.shard import ShardAttr
from supertile.ir.text import HEADER, parse_module, print_module


@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 3))
def test_ranks_of_a_group_have_the_slices_in_order(parts, copies, group):
    """Neighbours have the same one where there are fewer slices than ranks."""
    shard = ShardAttr.of(0, parts, parts * copies)
    first = group * shard.ranks
    found = [shard.part(first + rank) for rank in range(shard.ranks)]
    assert found == [part for part in range(parts) for _ in range(copies)]


def test_the_whole_of_a_slice():
    assert ShardAttr.of(1, 4, 4).whole((3, 5, 7)) == (3, 20, 7)


@pytest.mark.parametrize("fields", [(-1, 2, 2), (0, 0, 2), (0, 3, 4), (0, 2, 0)])
def test_what_is_no_shard(fields):
    with pytest.raises(VerifyException, match="evenly"):
        ShardAttr.of(*fields)


def test_text():
    text = f"""{HEADER}
builtin.module {{
  func.func @f(%x: tensor<4x2xf32>) -> tensor<4x2xf32> {{
    %w = graph.weight {{checkpoint = "w", shard = #comm.shard<axis = 0, parts = 2, ranks = 4>}} \
: () -> tensor<2x2xf32>
    %y = graph.linear %x, %w : (tensor<4x2xf32>, tensor<2x2xf32>) -> tensor<4x2xf32>
    %s = comm.all_reduce %y {{ranks = 4 : i64}} : (tensor<4x2xf32>) -> tensor<4x2xf32>
    func.return %s : tensor<4x2xf32>
  }}
}}
"""
    printed = print_module(parse_module(text, "test.mlir"), locations=False)
    assert print_module(parse_module(printed, "test.mlir"), locations=False) == printed
    assert "shard = #comm.shard<axis = 0, parts = 2, ranks = 4>" in printed
