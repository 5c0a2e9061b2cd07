"""Products by named axes as products of matrices: which axes are rows, columns, summed, shared.

`tkc,krc->tkr` is, for each k, a product of rows t and columns r summed over c.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from supertile.ir import graph
from supertile.ir.op import shape_of


@dataclass(frozen=True)
class Factors:
    """A product as one of matrices: which letters are rows, columns, summed, and shared."""

    x: SSAValue
    w: SSAValue
    x_letters: str
    w_letters: str
    y_letters: str
    shared: str
    """In both operands and the result: one matrix product for each index."""

    @property
    def row(self) -> str:
        return self.y_letters[0]

    @property
    def column(self) -> str:
        return next(c for c in self.y_letters if c not in self.x_letters)

    @property
    def summed(self) -> str:
        return next(c for c in self.w_letters if c in self.x_letters and c not in self.y_letters)

    def size(self, letter: str) -> int:
        for value, letters in ((self.x, self.x_letters), (self.w, self.w_letters)):
            if letter in letters:
                return shape_of(value)[letters.index(letter)]
        raise KeyError(letter)


def factors_of(op: Operation) -> Factors:
    """The axes of a product; a linear map is `t..k,nk->t..n`."""
    if isinstance(op, graph.Linear):
        middle = "abcdefg"[: len(shape_of(op.x)) - 2]
        x, y = f"t{middle}k", f"t{middle}n"
        return Factors(op.x, op.w, x, "nk", y, "")
    assert isinstance(op, graph.Einsum)
    left, y = op.equation.data.split("->")
    (x, w), (first, second) = left.split(","), op.inputs
    if y[0] not in x:
        x, w, first, second = w, x, second, first
    shared = "".join(c for c in w if c in x and c in y)
    return Factors(first, second, x, w, y, shared)


def is_product(op: graph.Einsum) -> bool:
    """Whether a product by named axes is one of matrices for each index of its shared axes.

    x has rows first and the summed axis last, the result has those of x with columns in its place,
    and the shared axes come first in w.
    """
    if len(op.inputs) != 2:
        return False
    f = factors_of(op)
    rest = f.w_letters[len(f.shared) :]
    return (
        len(rest) == 2
        and f.w_letters.startswith(f.shared)
        and f.x_letters[-1] in rest
        and f.y_letters[:-1] == f.x_letters[:-1]
        and f.y_letters[-1] in rest
        and len(set(f.x_letters)) == len(f.x_letters)
    )
