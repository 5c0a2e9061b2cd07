"""Maps of experts in JSON that open changes to vLLM load: no release was seen to load one.

A row has the expert in each of the P slots. Sizes: L layers with experts, N layers with drafts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple


class MapForm(NamedTuple):
    """What a change to vLLM wants of a map, and where its path is named."""

    every_layer: bool
    """Rows of all layers [N][P], draft layers last, or of those with experts alone [L][P]."""
    option: str
    """The key of --eplb-config."""


MAPS = {
    "pr53022": MapForm(True, "expert_map_path"),
    "pr49572": MapForm(False, "initial_expert_map_path"),
}
"""By the pull request, both open as of 2026-08: static maps of DeepSeek-V4, and initial maps."""


def map_text(rows: Sequence[Sequence[int]]) -> str:
    """The bare list of rows, one a line."""
    lines = ",\n".join(json.dumps(list(row), separators=(",", ":")) for row in rows)
    return f"[\n{lines}\n]\n"


def map_notes(form: str, ranks: int, redundant: int) -> tuple[str, ...]:
    """How to load the map."""
    config = json.dumps({"num_redundant_experts": redundant, MAPS[form].option: "FILE"})
    number = form.removeprefix("pr")
    return (
        f"for vLLM with pull request {number}, which is in no release up to 0.33.0: start it on "
        f"{ranks} ranks with --enable-eplb --eplb-config '{config}'",
    )
