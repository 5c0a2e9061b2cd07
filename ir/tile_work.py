"""What one launch of a tile kernel does, as data: counts for each block of each grid, loops apart.

Tile shapes are static, so the counts of a block are plain numbers; how many blocks a grid has and
how often a loop turns depends on sizes known at run time, which stay formulas. A cost model needs
nothing else of a kernel: it evaluates extents for one deployment or for arrays of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supertile.ir.formula import Formula

Size = int | Formula


@dataclass(frozen=True)
class Extent:
    """Blocks along one dimension of a grid or loop: ceil(size / step).

    With `groups`, the rows belong to that many groups of unknown sizes (experts, sequences) and no
    block has rows of two groups: sum over groups of ceil(rows of the group / step) blocks.
    """

    size: Size
    step: int
    groups: Size | None = None


@dataclass(frozen=True)
class Block:
    """One straight run of tile ops and the loops in it, in order.

    `operations` counts by (engine kind: "matrix" or "vector", element of the operands, such as
    "bf16" or "f8e4m3"), a multiply and an add as two; `transcendentals` are evaluations of exp and
    its kin. `loaded` and `stored` are bytes by memory space of the tile ("l1", "ub", "smem", ...)
    that come from or go to device memory, padding included: what passes through the L2 cache.
    """

    operations: Mapping[tuple[str, str], int] = field(default_factory=dict)
    transcendentals: int = 0
    loaded: Mapping[str, int] = field(default_factory=dict)
    stored: Mapping[str, int] = field(default_factory=dict)
    loops: tuple[Loop, ...] = ()


@dataclass(frozen=True)
class Loop:
    """A body run ceil(size / step) times; with `stages` > 1 its loads overlap its arithmetic."""

    extent: Extent
    stages: int
    body: Block


@dataclass(frozen=True)
class Phase:
    """One grid of blocks that may all run at once; phases of a kernel follow one another."""

    grid: tuple[Extent, ...]
    block: Block


@dataclass(frozen=True)
class KernelWork:
    """A kernel: its phases, and the bytes of device memory that it must touch however it is tiled.

    `read` and `written` are by operand: (label of the operand, bytes as a formula). A label is the
    name of a weight ("layers.{l}.attn.wq_a.weight"), of a state ("attn.recent"), or "" for a value
    made by another kernel. `flops` is the arithmetic without padding.
    """

    symbol: str
    kind: str
    phases: tuple[Phase, ...]
    read: tuple[tuple[str, Size], ...]
    written: tuple[tuple[str, Size], ...]
    flops: Size
    held: tuple[tuple[str, Size], ...] = ()
    """All bytes of each operand of `read`, in the same order; empty where `read` is exact."""
