"""Placements that differ from layer to layer: the plan of a module, and what its ops say of it.

One function serves many layers, so an op cannot list the placement of each. The module holds them
all, once, as the attribute `comm.plan`; the ops that depend on it hold a `PlannedAttr`:

    builtin.module attributes {comm.plan = #comm.plan<3, [[2, 2]], default "0 2 1 0",
      0 "0 1 2 0" shares "3000000000 1294967296">} {
      %r, .. = comm.dispatch .. {placement = #comm.planned<3, 2, 2, 0, "5f3759df86bb0a1c">}

Layers are numbered through: those of the first `graph.layers` from 0 on, those of the next (the
draft's, say) behind them. In a function that belongs to layers `first`, `first` + 1, .. the op's
layer number counts from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby

from xdsl.dialects.builtin import IntAttr, ModuleOp, StringAttr
from xdsl.ir import Attribute, Data, Operation, ParametrizedAttribute
from xdsl.irdl import AnyOf, AttrConstraint, BaseAttr, irdl_attr_definition, param_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from supertile.ir.placement import RANK_LIMIT, WHOLE, Placement, PlacementAttr, by_rank

PLAN = "comm.plan"
"""The name of the plan among the attributes of a module."""
LAYER_LIMIT = 2**16
SLOT_LIMIT = 8 * RANK_LIMIT


@dataclass(frozen=True)
class ExpertPlan:
    """The placement of each layer; layers that are not listed have `default`.

    All place equally many experts on ranks of equally many slots; ValueError where they do not.
    """

    default: Placement
    layers: tuple[tuple[int, Placement], ...] = ()
    """(number, placement), ascending by number."""

    @staticmethod
    def of(layers: Mapping[int, Placement], default: Placement) -> ExpertPlan:
        return ExpertPlan(default, tuple(sorted(layers.items())))

    def __post_init__(self) -> None:
        numbers = [number for number, _ in self.layers]
        if numbers != sorted(set(numbers)) or not all(0 <= n < LAYER_LIMIT for n in numbers):
            raise ValueError(f"layers are numbers below {LAYER_LIMIT}, ascending, got {numbers}")
        for number, placement in self.layers:
            if placement.experts != self.experts:
                raise ValueError(
                    f"layer {number} has {placement.experts} of {self.experts} experts"
                )
            if [*map(len, placement.slots)] != self.counts:
                raise ValueError(f"ranks have other numbers of slots in layer {number}")

    @property
    def experts(self) -> int:
        return self.default.experts

    @property
    def ranks(self) -> int:
        return self.default.ranks

    @property
    def width(self) -> int:
        return self.default.width

    @cached_property
    def counts(self) -> list[int]:
        """The slots of each rank."""
        return [*map(len, self.default.slots)]

    @cached_property
    def by_number(self) -> dict[int, Placement]:
        return dict(self.layers)

    def at(self, number: int) -> Placement:
        return self.by_number.get(number, self.default)

    @cached_property
    def text(self) -> str:
        """The parameters of the attribute; numbers are in strings because those parse quickly."""
        runs = [[count, len([*ranks])] for count, ranks in groupby(self.counts)]
        named = [("default", self.default), *self.layers]
        held = (f"{name} {_placement_text(placement)}" for name, placement in named)
        return f"{self.experts}, {runs}, {', '.join(held)}"

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


# ---- the plan of a module ----------------------------------------------------------------------


@irdl_attr_definition
class PlanAttr(Data[ExpertPlan]):
    """`#comm.plan<E, [[slots, ranks], ..], default "e e ..", 0 "e e .." shares "s s ..", ..>`.

    E experts; how many slots how many ranks in a row have; the experts in all slots, rank by rank,
    by default and in single layers; and the shares, in 2^32-ths, of those slots, in this order,
    whose expert has others too.
    """

    name = "comm.plan"

    def print_parameter(self, printer: Printer) -> None:
        printer.print_string(f"<{self.data.text}>")

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> ExpertPlan:
        with parser.in_angle_brackets():
            experts = parser.parse_integer()
            parser.parse_punctuation(",")
            start = parser.pos
            runs = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: _run(parser))
            total = sum(slots * ranks for slots, ranks in runs)
            if not 1 <= sum(ranks for _, ranks in runs) <= RANK_LIMIT or total > SLOT_LIMIT:
                parser.raise_error(f"expected 1 to {RANK_LIMIT} ranks with slots", start)
            counts = [slots for slots, ranks in runs for _ in range(ranks)]
            default: Placement | None = None
            layers: list[tuple[int, Placement]] = []
            while parser.parse_optional_punctuation(",") is not None:
                start = parser.pos
                is_default = parser.parse_optional_keyword("default") is not None
                number = -1 if is_default else parser.parse_integer()
                try:
                    placement = _parsed(parser, experts, counts)
                except ValueError as error:
                    parser.raise_error(str(error), start)
                if is_default:
                    default = placement
                else:
                    layers.append((number, placement))
            if default is None:
                parser.raise_error("expected a default placement", start)
            try:
                return ExpertPlan(default, tuple(layers))
            except ValueError as error:
                parser.raise_error(str(error), start)


def _run(parser: AttrParser) -> tuple[int, int]:
    """[slots, ranks]"""
    start = parser.pos
    held = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
    if len(held) != 2 or min(held) < 1:
        parser.raise_error("expected how many slots how many ranks have: [slots, ranks]", start)
    return held[0], held[1]


def _parsed(parser: AttrParser, experts: int, counts: Sequence[int]) -> Placement:
    slots = by_rank([*map(int, parser.parse_str_literal().split())], counts)
    if parser.parse_optional_keyword("shares") is None:
        return Placement(experts, slots)
    given = iter([*map(int, parser.parse_str_literal().split())])
    copies = _copies(experts, slots)
    shares = [_share(expert, copies, given) for expert in chain(*slots)]
    if next(given, None) is not None:
        raise ValueError("there are more shares than slots whose expert has others")
    return Placement(experts, slots, by_rank(shares, counts))


def _share(expert: int, copies: Sequence[int], given: Iterator[int]) -> int:
    """The share of a slot: only those of several copies are written."""
    if copies[expert] > 1:
        share = next(given, None)
        if share is None:
            raise ValueError("there are fewer shares than slots whose expert has others")
        return share
    return WHOLE if copies[expert] else 0


def _copies(experts: int, slots: Sequence[Sequence[int]]) -> list[int]:
    """How many slots each expert has, and 0 for an idle one, whose number is -1."""
    copies = [0] * (experts + 1)
    for expert in chain(*slots):
        if not -1 <= expert < experts:
            raise ValueError(f"experts are 0 to {experts - 1}, found {expert}")
        copies[expert] += 1
    copies[-1] = 0
    return copies


def _placement_text(placement: Placement) -> str:
    text = f'"{" ".join(map(str, chain(*placement.slots)))}"'
    if placement.shares is None:
        return text
    copies = _copies(placement.experts, placement.slots)
    pairs = zip(chain(*placement.slots), chain(*placement.shares), strict=True)
    shares = [str(share) for expert, share in pairs if copies[expert] > 1]
    return f'{text} shares "{" ".join(shares)}"'


def plan_of(module: ModuleOp) -> ExpertPlan | None:
    """The plan that a module holds, if it holds one."""
    held = module.attributes.get(PLAN)
    return held.data if isinstance(held, PlanAttr) else None


# ---- what ops say of it ------------------------------------------------------------------------


@irdl_attr_definition
class PlannedAttr(ParametrizedAttribute):
    """The placements of layers `first`, `first` + 1, .. in the plan of the module.

    `#comm.planned<experts, ranks, width, first, "digest">`: the plan must be that of the digest.
    """

    name = "comm.planned"
    experts: IntAttr = param_def()
    rank_count: IntAttr = param_def()
    most_slots: IntAttr = param_def()
    first: IntAttr = param_def()
    digest: StringAttr = param_def(BaseAttr(StringAttr))

    @staticmethod
    def of(plan: ExpertPlan, first: int) -> PlannedAttr:
        experts, ranks, width = IntAttr(plan.experts), IntAttr(plan.ranks), IntAttr(plan.width)
        return PlannedAttr(experts, ranks, width, IntAttr(first), StringAttr(plan.digest))

    @property
    def expert_count(self) -> int:
        return self.experts.data

    @property
    def ranks(self) -> int:
        return self.rank_count.data

    @property
    def width(self) -> int:
        """Slots of the rank that has most."""
        return self.most_slots.data

    def verify(self) -> None:
        if min(self.experts.data, self.ranks, self.width) < 1 or self.first.data < 0:
            raise VerifyException("expected experts, ranks and slots")

    def print_parameters(self, printer: Printer) -> None:
        numbers = f"{self.experts.data}, {self.ranks}, {self.width}, {self.first.data}"
        printer.print_string(f'<{numbers}, "{self.digest.data}">')

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            numbers = []
            for _ in range(4):
                numbers.append(IntAttr(parser.parse_integer(allow_boolean=False)))
                parser.parse_punctuation(",")
            return (*numbers, StringAttr(parser.parse_str_literal()))


AnyPlacement = PlacementAttr | PlannedAttr
ANY_PLACEMENT: AttrConstraint[AnyPlacement] = AnyOf(
    (BaseAttr(PlacementAttr), BaseAttr(PlannedAttr))
)


@dataclass(frozen=True)
class LayerPlacements:
    """The placement that an op has in each layer."""

    attribute: AnyPlacement
    plan: ExpertPlan | None = None

    @property
    def ranks(self) -> int:
        return self.attribute.ranks

    @property
    def experts(self) -> int:
        return self.attribute.expert_count

    def at(self, layer: int | None) -> Placement:
        """In the layer with this number among the layers of the function; None: in no layer."""
        if isinstance(self.attribute, PlacementAttr):
            return self.attribute.placement
        assert self.plan is not None
        return self.plan.at(self.attribute.first.data + (layer or 0))

    def each(self) -> Iterator[Placement]:
        """All placements that there are, the default first."""
        if self.plan is None:
            yield self.at(None)
        else:
            yield from (self.plan.default, *(placement for _, placement in self.plan.layers))


def layer_placements(op: Operation, attribute: AnyPlacement) -> LayerPlacements:
    """What a placement of an op stands for. ValueError where the module lacks the plan."""
    if isinstance(attribute, PlacementAttr):
        return LayerPlacements(attribute)
    module = op.get_toplevel_object()
    plan = plan_of(module) if isinstance(module, ModuleOp) else None
    if plan is None or PlannedAttr.of(plan, attribute.first.data) != attribute:
        found = "none" if plan is None else f'"{plan.digest}"'
        raise ValueError(f"the plan {attribute.digest} is not that of the module: {found}")
    return LayerPlacements(attribute, plan)
