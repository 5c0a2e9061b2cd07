"""Dialects that compute: from the keys of a config to values, ropes and rows of layers.

What a dialect need not compute stands in the model file. `config NAME` in a model file takes the
dialect NAME.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from supertile.frontend.families.common import Parts
from supertile.frontend.families.deepseek_v3 import deepseek_v3
from supertile.frontend.families.deepseek_v4 import deepseek_v4

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Keys

DIALECTS: dict[str, Callable[[Keys], Parts]] = {
    "deepseek_v4": deepseek_v4,
    "deepseek_v3": deepseek_v3,
}
