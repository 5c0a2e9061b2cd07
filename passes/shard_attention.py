"""Splits attention over the ranks of a group by heads, and feed-forward layers by their width.

    %w = graph.weight {checkpoint = "q_proj"} : () -> tensor<64x64xf32>
    %o = graph.weight {checkpoint = "o_proj"} : () -> tensor<64x64xf32>
    ... heads of %w, graph.attend, ...
    %y = graph.linear %v, %o
-> shard-attention{ranks=4}
    %w = graph.weight {checkpoint = "q_proj", shard = <axis = 0, ...>} : () -> tensor<16x64xf32>
    %o = graph.weight {checkpoint = "o_proj", shard = <axis = 1, ...>} : () -> tensor<64x16xf32>
    ... a quarter of the heads ...
    %z = graph.linear %v, %o
    %y = comm.all_reduce %z {ranks = 4}

What is cut follows from `axis_links.py`: from the heads of every query, and from the first products
of feed-forward layers (`feed_forward.py`), up to the weights and down to the product that sums over
them. What no link reaches stays whole. Parts of sums are float32 until they are added; then the sum
is rounded, once.

Routed experts are not cut but with `experts=slice`. With `experts=share` each rank has all of them,
or those that `plan-experts` gives it, and a part of the tokens: see `share_tokens.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.ir.locations import location_text
from supertile.ir.op import shape_of
from supertile.ir.placement import RANK_LIMIT
from supertile.passes.axis_links import Axis
from supertile.passes.feed_forward import feed_forwards
from supertile.passes.group_sums import add_sums
from supertile.passes.rewriting import Equivalence, Pass, count, rewrites_of
from supertile.passes.share_tokens import share_tokens
from supertile.passes.split_axes import BlockedError, Split, cut, most_parts, split_from
from supertile.passes.split_states import split_stacks


@dataclass(frozen=True)
class ShardAttention(Pass):
    """Heads and feed-forward widths -> a slice of each on every rank of a group, and all_reduce."""

    name = "shard-attention"
    equivalence: ClassVar[Equivalence] = "reassociate"
    takes: ClassVar[tuple[str, ...]] = ("graph", "placed")

    ranks: int = count(1, most=RANK_LIMIT)
    experts: Literal["share", "slice"] = "share"

    def equivalence_on(self, module: ModuleOp) -> Equivalence:
        """One sum of all experts of a token is sent: where rows of experts were rounded one by
        one, none is, so that results have fewer roundings.
        """
        has_experts = any(isinstance(op, graph.Dispatch) for op in module.walk())
        is_split = self.ranks > 1 and self.experts == "slice"
        return "convert" if is_split and has_experts and _has_codes(module) else "reassociate"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.ranks == 1:
            return
        has_codes = _has_codes(op)
        for function in [held for held in op.ops if isinstance(held, FuncOp)]:
            splits = list(self._splits(function))
            _check_fits(splits, self.ranks, has_codes)
            for split in splits:
                cut(function, split, self.ranks)
                rewrites_of(ctx).count("split")
            add_sums([one for split in splits for one in split.sums], self.ranks)
            if self.experts == "share":
                for _ in range(share_tokens(function, self.ranks)):
                    rewrites_of(ctx).count("share tokens")
        split_stacks(op)

    def _splits(self, function: FuncOp) -> Iterator[Split]:
        """What is cut of a function, found before anything is."""
        for attend in [op for op in function.walk() if isinstance(op, graph.Attend)]:
            yield from self._heads(attend)
        has_experts = any(isinstance(op, graph.Dispatch) for op in function.walk())
        if has_experts and self.experts == "share":
            return
        done: set[SSAValue] = set()
        for layer in feed_forwards(function.walk()):
            hidden = layer.products[0].result
            if hidden in done:
                continue
            try:
                split = split_from((hidden, len(shape_of(hidden)) - 1), self.ranks)
            except BlockedError:
                continue
            done.update(split.axes)
            yield split

    def _heads(self, attend: graph.Attend) -> Iterator[Split]:
        """The heads of the query, and those of the keys where each has its own."""
        yield _needed((attend.q, 1), self.ranks, attend)
        keys = [value for value in attend.keys if len(shape_of(value)) == 4]
        if keys:
            yield _needed((keys[0], 2), _key_parts(keys[0], self.ranks, attend), attend)


def _has_codes(module: ModuleOp) -> bool:
    """Whether numbers are those of the declared formats, rounded where the model says so."""
    return module.attributes.get("supertile.numerics") == StringAttr("deployed")


def _key_parts(keys: SSAValue, ranks: int, attend: graph.Attend) -> int:
    """How many slices the heads of keys are cut into: neighbours share where ranks are more."""
    heads = shape_of(keys)[2]
    if heads % ranks == 0:
        return ranks
    if ranks % heads == 0:
        return heads
    limit = next(n for n in range(ranks, 0, -1) if heads % n == 0 or n % heads == 0)
    raise UserError(
        "shard.heads",
        place=location_text(attend.location),
        heads=heads,
        ranks=ranks,
        limit=limit,
    )


def _needed(seed: Axis, parts: int, attend: graph.Attend) -> Split:
    try:
        return split_from(seed, parts)
    except BlockedError as error:
        raise UserError(
            "shard.blocked",
            place=location_text(attend.location),
            op=error.op.name,
            at=location_text(error.op.location),
        ) from None


def _check_fits(splits: Sequence[Split], ranks: int, has_codes: bool) -> None:
    """Slices are equal, and no block of codes with one scale is cut."""
    for split in splits:
        for value, axis in split.axes.items():
            if most_parts(value, axis, split.parts, has_codes) < split.parts:
                limit = next(n for n in range(ranks, 0, -1) if _fit(splits, ranks, n, has_codes))
                raise _slices_error(value, axis, split.parts, limit)


def _fit(splits: Sequence[Split], asked: int, ranks: int, has_codes: bool) -> bool:
    """Whether everything that is cut for all ranks asked for can be cut for so many."""
    return all(
        most_parts(value, axis, ranks, has_codes) == ranks
        for split in splits
        if split.parts == asked
        for value, axis in split.axes.items()
    )


def _slices_error(value: SSAValue, axis: int, parts: int, limit: int) -> UserError:
    owner = value.owner
    return UserError(
        "shard.slices",
        name=value.name_hint or (owner.name if isinstance(owner, Operation) else "an argument"),
        place=location_text(owner.location) if isinstance(owner, Operation) else "an entry",
        size=shape_of(value)[axis],
        parts=parts,
        limit=limit,
    )
