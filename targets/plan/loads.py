"""Expert loads: how many tokens each expert of each layer got, in windows of time.

Sizes: W windows, L layers with routed experts, E experts. What files hold is in `load_tables`, how
they are opened in `load_files`, how tables become the loads of a model in `load_sums`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir.json_text import JsonSource, Steps

Floats = NDArray[np.float64]
Array = NDArray[Any]

COUNT_LIMIT = 2**53 - 1  # from 2^53 on, 64-bit floats no longer hold every whole number
COUNT_LEAST = 1e-30  # less is no part of anything, and quotients of such numbers overflow
COUNT_TEXT = f"0, or a number from {COUNT_LEAST:g} to {COUNT_LIMIT}"
ELEMENT_LIMIT = 2**26  # numbers in a table: 2,800 windows of 61 layers of 384 experts


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
    windows: Sequence[int] | None = None
    """The number of each window, ascending, where the file numbers them."""
    rank: str = ""
    """Whose counts alone these are, where the file says so."""
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return int(self.counts.shape[-2])


def check_rank(source: JsonSource, key: Steps, values: Array, ranks: Sequence[int]) -> None:
    """That a table of numbers has one of the numbers of axes, none of them empty."""
    if values.dtype.kind not in "iuf":
        raise source.fail("loads.numbers", key, found=f"{values.dtype}")
    shape = list(values.shape)
    if values.ndim not in ranks or 0 in shape:
        forms = {1: "a list", 2: "[layers][experts]", 3: "[windows][layers][experts]"}
        expected = " or ".join(forms[rank] for rank in ranks)
        raise source.fail("loads.rank", key, expected=expected, found=f"{shape}")


def check_values(source: JsonSource, key: Steps, values: Array) -> None:
    """That all are 0, or finite numbers from `COUNT_LEAST` to `COUNT_LIMIT`."""
    wrong = ~((values == 0) | ((values >= COUNT_LEAST) & (values <= COUNT_LIMIT)))
    if not wrong.any():
        return
    at = tuple(int(index) for index in np.unravel_index(int(wrong.argmax()), values.shape))
    found, others = values[at].item(), int(wrong.sum()) - 1
    more = f", and {others} more" if others else ""
    raise source.fail("loads.value", (*key, *at), expected=COUNT_TEXT, found=f"{found}{more}")
