"""What a pass is made of: the base class, and pattern rewriting that is counted, located, bounded.

A pass writes patterns and calls `rewrite(ctx, module, patterns)`. It does no counting, gives new
ops no locations, and needs no guard against endless rewriting: all that is done here.
"""

from __future__ import annotations

from abc import ABC
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import (
    PatternRewriter,
    PatternRewriterListener,
    PatternRewriteWalker,
    RewritePattern,
)
from xdsl.traits import Pure

from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.ir.levels import WHOLE_TENSORS
from supertile.ir.locations import is_unknown

Equivalence = Literal["exact", "reassociate", "requantize", "convert"]
BUDGET = 200_000
LEAST, MOST = "least", "most"
COUNT_LIMIT = 2**40
"""More than any device has bytes, and than any call has tokens."""


def count(default: int | tuple[int, ...] | None, least: int = 1, most: int = COUNT_LIMIT) -> Any:
    """An option that counts tokens, ranks, bytes: from `least` to `most`, both included."""
    return field(default=default, metadata={LEAST: least, MOST: most})


@dataclass(frozen=True)
class Pass(ModulePass, ABC):
    """A pass: its name is that of its file, its options are its dataclass fields.

    `equivalence` says how the numbers of the module before and after may differ: exact (bit-equal),
    reassociate (float32 bounds), requantize (a stated count of one-ulp changes of codes), convert
    (another number format).
    """

    equivalence: ClassVar[Equivalence]
    takes: ClassVar[tuple[str, ...]] = WHOLE_TENSORS
    """The levels of the modules that the pass is for; the driver refuses others."""
    leaves: ClassVar[str | None] = None
    """The level of the module behind the pass, where that is not yet the level of its phase."""

    def equivalence_on(self, module: ModuleOp) -> Equivalence:
        """The class for one module, where the pass knows it better."""
        return self.equivalence

    def check_options(self) -> None:
        """Raise `pass.option_value` for a number out of its range; a list has one for each item."""
        for option in fields(self):
            if LEAST not in option.metadata:
                continue
            least, most = option.metadata[LEAST], option.metadata[MOST]
            value = getattr(self, option.name)
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and not least <= number <= most:
                    raise UserError(
                        "pass.option_value",
                        name=self.name,
                        option=option.name,
                        expected=f"an integer of at least {least} and at most {most:,}",
                        found=str(number),
                    )


class RewriteBudgetError(Exception):
    """A pass rewrote more often than any terminating pass would."""


@dataclass
class Rewrites:
    """How often each pattern rewrote, within a budget for all of them."""

    budget: int = BUDGET
    by_pattern: Counter[str] = field(default_factory=Counter)

    def count(self, pattern: str) -> None:
        self.by_pattern[pattern] += 1
        if self.by_pattern.total() > self.budget:
            raise RewriteBudgetError(f"more than {self.budget} rewrites, the last one by {pattern}")


class PassContext(Context):
    """The context of one run of one pass: xDSL's, with the count of its rewrites."""

    def __init__(self, rewrites: Rewrites) -> None:
        super().__init__()
        self.rewrites = rewrites


def rewrites_of(ctx: Context) -> Rewrites:
    """The count that the driver keeps; one of its own for a pass that runs without the driver."""
    return ctx.rewrites if isinstance(ctx, PassContext) else Rewrites()


def rewrite(
    ctx: Context, module: ModuleOp, patterns: Sequence[RewritePattern], reverse: bool = False
) -> None:
    """Apply patterns, and remove dead ops, until nothing changes; the first that matches wins.

    The result must not depend on the order of visits: `reverse` lets tests try the other one.
    """
    applier = _Applier(patterns, rewrites_of(ctx))
    listener = PatternRewriterListener(operation_insertion_handler=[applier.locate])
    walker = PatternRewriteWalker(applier, walk_reverse=reverse, listener=listener)
    try:
        walker.rewrite_module(module)
    except _Escape as escape:
        raise escape.error from None


def is_dead(op: Operation) -> bool:
    """Whether nobody would miss the op: it is pure, in all its regions, and has no uses."""
    return bool(op.results) and not any(value.uses for value in op.results) and _is_pure(op)


def _is_pure(op: Operation) -> bool:
    if isinstance(op, graph.Fused):
        return all(isinstance(inner, graph.Yield) or _is_pure(inner) for inner in op.body.ops)
    return op.has_trait(Pure)


class _Escape(BaseException):
    """Carries an error past xDSL's walker, which would append the whole module to it."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Applier(RewritePattern):
    """Applies the first pattern that matches, counts it, and locates what it inserted."""

    def __init__(self, patterns: Sequence[RewritePattern], rewrites: Rewrites) -> None:
        self.patterns = patterns
        self.rewrites = rewrites
        self.location: Attribute | None = None

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        # Kept from before: the pattern may erase the op.
        self.location = op.location
        try:
            self._apply(op, rewriter)
        except Exception as error:
            raise _Escape(error) from error

    def _apply(self, op: Operation, rewriter: PatternRewriter) -> None:
        if is_dead(op):
            rewriter.erase(op)
            self.rewrites.count("remove dead op")
            return
        for pattern in self.patterns:
            pattern.match_and_rewrite(op, rewriter)
            if rewriter.has_done_action:
                self.rewrites.count(type(pattern).__name__)
                return

    def locate(self, new: Operation) -> None:
        """An inserted op without a location comes from where the matched op came from."""
        for op in new.walk():
            if is_unknown(op.location):
                op.location = self.location  # type: ignore[assignment]
