"""What the keys of each model family mean: one function a family, from checked keys to rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from supertile.frontend.families.common import Parts
from supertile.frontend.families.deepseek_v3 import deepseek_v3
from supertile.frontend.families.deepseek_v4 import deepseek_v4
from supertile.frontend.families.llama import llama
from supertile.frontend.families.qwen3_moe import qwen3_moe

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Keys

FAMILIES: dict[str, Callable[[Keys], Parts]] = {
    "deepseek_v4": deepseek_v4,
    "deepseek_v3": deepseek_v3,
    "llama": llama,
    "qwen3_moe": qwen3_moe,
}
