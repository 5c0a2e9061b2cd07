"""How rows travel between ranks: the route that a comm op carries, as text, value and attribute.

    direct over supernode by load_store, deduplicated
    hierarchical over scale_out by rdma, node by fused, deduplicated
    padded over cabinet by collective

    direct          each rank sends to each rank that it has rows for
    hierarchical    to a rank of the target's domain over the first hop, on to the target over the
                    second: few large messages; deduplicated, one row to each domain
    padded          every rank sends all its tokens to every rank: sizes do not depend on routing

A hop is a domain of links and the protocol that carries rows over it, hops from the outermost
inwards; a domain that is not named takes the fastest protocol known. `fused` is the kernel whose
time the machine file gives as `dispatch` and `combine`, `link` the bare link. A deduplicated route
sends one copy of a token to a rank that holds several of its experts; its rows are rebuilt there,
so that no result changes. In IR it is `#comm.route<..>` around the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute, ParametrizedAttribute
from xdsl.irdl import base, irdl_attr_definition, param_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

ALGORITHMS = ("direct", "hierarchical", "padded")
FUSED, LINK = "fused", "link"
PROTOCOLS = (FUSED, "load_store", "dma", "rdma", "collective", LINK)
DEDUPLICATED = "deduplicated"
FORM = "direct|hierarchical|padded over DOMAIN by PROTOCOL[, DOMAIN by PROTOCOL ..][, deduplicated]"
HOP = re.compile(r"([A-Za-z]\w*) by (\w+)")
HOP_LIMIT = 8


class Hop(NamedTuple):
    """The links of a domain, and what carries rows over them."""

    domain: str
    protocol: str


@dataclass(frozen=True)
class Route:
    """The way of one direction; ValueError where it is none."""

    algorithm: str
    hops: tuple[Hop, ...]
    """From the outermost domain inwards."""
    deduplicated: bool = False

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ValueError(problem)

    def __str__(self) -> str:
        hops = ", ".join(f"{hop.domain} by {hop.protocol}" for hop in self.hops)
        return f"{self.algorithm} over {hops}{f', {DEDUPLICATED}' if self.deduplicated else ''}"

    def protocol(self, domain: str) -> str | None:
        """The protocol over a domain; None where the route does not name it."""
        return next((hop.protocol for hop in self.hops if hop.domain == domain), None)


def _problem(route: Route) -> str:
    domains = [hop.domain for hop in route.hops]
    unknown = [hop.protocol for hop in route.hops if hop.protocol not in PROTOCOLS]
    if route.algorithm not in ALGORITHMS:
        return f"expected one of {', '.join(ALGORITHMS)}, found {route.algorithm}"
    if unknown:
        return f"expected a protocol of {', '.join(PROTOCOLS)}, found {unknown[0]}"
    if not 1 <= len(domains) <= HOP_LIMIT or len(set(domains)) < len(domains):
        return f"expected 1 to {HOP_LIMIT} domains, each once, found {domains}"
    if route.algorithm == "hierarchical" and len(domains) != 2:
        return f"a hierarchical route has two hops, found {len(domains)}"
    if route.algorithm == "padded" and not route.deduplicated:
        return "a padded route sends each token once: it is deduplicated"
    return ""


def route_of(text: str) -> Route:
    """The route that a text describes; ValueError, with what was expected, for another text."""
    algorithm, over, rest = text.strip().partition(" over ")
    parts = [part.strip() for part in rest.split(",")]
    deduplicated = parts[-1] == DEDUPLICATED
    matches = [HOP.fullmatch(part) for part in parts[: len(parts) - deduplicated]]
    if not over or not matches or None in matches:
        raise ValueError(f"expected {FORM}, found {text[:200]!r}")
    hops = tuple(Hop(match[1], match[2]) for match in matches if match)
    return Route(algorithm, hops, deduplicated)


@irdl_attr_definition
class RouteAttr(ParametrizedAttribute):
    """A route on a comm op: `#comm.route<direct over supernode by fused>`."""

    name = "comm.route"
    text: StringAttr = param_def(base(StringAttr))

    @staticmethod
    def of(route: Route) -> RouteAttr:
        return RouteAttr(StringAttr(str(route)))

    @property
    def route(self) -> Route:
        return route_of(self.text.data)

    def verify(self) -> None:
        try:
            _ = self.route
        except ValueError as error:
            raise VerifyException(str(error)) from None

    def print_parameters(self, printer: Printer) -> None:
        printer.print_string(f"<{self.text.data}>")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            start = parser.pos
            words: list[str] = []
            while (word := _word(parser)) is not None:
                words.append(word)
            text = " ".join(words).replace(" ,", ",")
            try:
                return [StringAttr(str(route_of(text)))]
            except ValueError as error:
                parser.raise_error(str(error), start)


def _word(parser: AttrParser) -> str | None:
    """The next word or comma of a route."""
    if parser.parse_optional_punctuation(",") is not None:
        return ","
    return parser.parse_optional_identifier()
