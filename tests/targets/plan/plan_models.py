"""Small models for the tests of loads and plans."""

from __future__ import annotations

from supertile.targets.plan.model import ExpertLayers

SPARSE = ExpertLayers("small", 3, (0, 1, 2), (0,), 4, 2, 10)
"""Every layer has experts; layer 0 chooses by token id."""
MIXED = ExpertLayers("mixed", 4, (1, 3), (), 4, 2, 10)
"""Layers 0 and 2 are dense."""
