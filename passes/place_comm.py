"""Writes on each transfer of the experts how its rows travel.

    %r, %g, %n, %o = comm.dispatch %q, %chosen, %weight {placement = ...}
    %y = comm.combine %c, %o, %chosen
-> place-comm{dispatch="direct over supernode by fused" combine="direct over supernode by dma"}
    ... comm.dispatch ... {placement = ..., route = #comm.route<direct over supernode by fused>}
    ... comm.combine ... {route = #comm.route<direct over supernode by dma>}

Which route is fastest depends on the machine and the deployment: `targets/comm/` computes it and
passes it here as text (`ir/comm_route.py` has the form). Costs follow the route; results do not.
Without options nothing is written, and the cost model's own choice holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from supertile.ir import comm
from supertile.ir.comm_route import FORM, RouteAttr, route_of
from supertile.ir.errors import UserError
from supertile.passes.rewriting import Equivalence, Pass, rewrites_of


@dataclass(frozen=True)
class PlaceComm(Pass):
    """comm.dispatch, comm.combine -> the same with a route."""

    name = "place-comm"
    equivalence: ClassVar[Equivalence] = "exact"
    takes: ClassVar[tuple[str, ...]] = ("graph", "placed")

    dispatch: str = ""
    combine: str = ""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        routes = {
            comm.Dispatch: _attribute("dispatch", self.dispatch),
            comm.Combine: _attribute("combine", self.combine),
        }
        rewrites = rewrites_of(ctx)
        for held in op.walk():
            if not isinstance(held, comm.Dispatch | comm.Combine):
                continue
            route = routes[type(held)]
            if route is not None and held.route != route:
                held.properties["route"] = route
                rewrites.count("place transfer")


def _attribute(option: str, text: str) -> RouteAttr | None:
    """The route of an option's text; None for an empty one."""
    if not text:
        return None
    try:
        return RouteAttr.of(route_of(text))
    except ValueError as error:
        raise UserError("placement.route", option=option, form=FORM, found=str(error)) from None
