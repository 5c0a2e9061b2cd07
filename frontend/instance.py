"""Blocks put to use: an instance has a place in the model, numbers for its parameters, a prefix.

    part far: csa "attn."      the block csa at `.far`, its weights under "attn."
"""

from __future__ import annotations

from dataclasses import dataclass, field

from supertile.frontend import syntax
from supertile.frontend.values import Row, Value


@dataclass(eq=False)
class Instance:
    """One use of a block.

    `path` names values and state ("attn.far"), `prefix` weights ("layers.{l}.attn."); `settings`
    holds the build-time parameters, `row` the table row of the layer that it belongs to.
    """

    block: syntax.Block
    path: str
    prefix: str
    settings: dict[str, Value] = field(default_factory=dict)
    row: Row | None = None
    parts: dict[str, Value] = field(default_factory=dict)
    anonymous: bool = False
    """Called without a part: its values have no names of their own."""

    def named(self, name: str) -> str:
        """The name of a value of this instance in traces and dumps."""
        return f"{self.path}.{name}" if self.path else name
