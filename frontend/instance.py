"""Blocks put to use: an instance has a place in the model, numbers for its settings, a prefix.

part far: csa "attn."      the block csa at `.far`, its weights under "attn."
"""

from __future__ import annotations

from dataclasses import dataclass, field

from supertile.frontend import syntax
from supertile.frontend.values import PartValue, Row, Value

# Kinds of parameters that are given where a block is put to use, not where it is called.
SETTING_KINDS = ("int", "float", "rope", "block", "format")


@dataclass(eq=False)
class Instance:
    """One use of a block.

    `path` names values and state ("attn.far"), `prefix` weights ("layers.{l}.attn."); `settings`
    holds what the part line gave, `row` the table row of the layer that it belongs to.
    """

    block: syntax.Block
    path: str
    prefix: str
    settings: dict[str, Value] = field(default_factory=dict)
    row: Row | None = None
    parts: dict[str, PartValue] = field(default_factory=dict)
    anonymous: bool = False
    """Called without a part: its values have no names of their own."""

    def named(self, name: str) -> str:
        """The name of a value of this instance in traces and dumps."""
        return f"{self.path}.{name}" if self.path else name


def settings_of(block: syntax.Block) -> list[syntax.Parameter]:
    """Parameters that a part line gives."""
    return [item for item in block.parameters if _is_setting(item)]


def inputs_of(block: syntax.Block) -> list[syntax.Parameter]:
    """Parameters that a call gives."""
    return [item for item in block.parameters if not _is_setting(item)]


def needs_part(block: syntax.Block) -> bool:
    """Whether the block has what only a part can hold: weights, state, parts, settings."""
    declares = any(
        isinstance(statement, syntax.Weight | syntax.State | syntax.Part)
        for statement in block.statements
    )
    return declares or bool(settings_of(block))


def _is_setting(parameter: syntax.Parameter) -> bool:
    return parameter.kind is not None and parameter.kind.sizes is None
