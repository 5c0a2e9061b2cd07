"""Suggestions for wrong names by example: the slip of a known name, or nothing."""

import pytest
from hypothesis import given, strategies as st

from supertile.cli.inputs import shipped_configs, shipped_models
from supertile.ir.hints import nearest
from supertile.passes.pipeline import pass_names
from supertile.targets.deploy import KEYS
from supertile.targets.engines.engine import engine_names
from supertile.targets.machine import machine_names
from supertile.targets.machine_schema import MEMORY, PARAMETERS, PROTOCOL
from supertile.targets.machine_units import FORMATS, UNITS

MACHINES, PASSES = machine_names(), pass_names()
CONFIGS, MODELS = tuple(shipped_configs()), tuple(shipped_models())
ENGINES = tuple(engine_names())
FAMILIES = ("deepseek_v4", "deepseek_v3", "llama", "qwen3_moe")
# A wrong name, the known ones, and the one that is meant; "": none of them is.
TABLE = [
    # Machines
    ("gb200", MACHINES, "gb200-nvl72"),
    ("GB300", MACHINES, "gb300-nvl72"),
    ("gb200_nvl72", MACHINES, "gb200-nvl72"),
    ("gb200nvl72", MACHINES, "gb200-nvl72"),
    ("910c", MACHINES, "ascend-910c"),
    ("910C", MACHINES, "ascend-910c"),
    ("ascend910c", MACHINES, "ascend-910c"),
    ("acsend-910c", MACHINES, "ascend-910c"),
    ("950dt", MACHINES, "ascend-950dt"),
    ("H200", MACHINES, "h200"),
    ("nunpy", MACHINES, "numpy"),
    *((name, MACHINES, "") for name in ("h20", "h800", "a100", "b200", "B200", "b300", "gb20")),
    *((name, MACHINES, "") for name in ("910b", "910B", "ascend-910b", "ascend-950pr", "950")),
    *((name, MACHINES, "") for name in ("mi355x", "tpu-v5p", "nvl72", "ascend", "gb200-nvl36")),
    *((name, MACHINES, "") for name in ("h200-nvl", "h100x", "", "x" * 5000)),
    # Models, their families and configs
    ("deepseekv3", MODELS, "deepseek_v3"),
    ("depseek_v4", MODELS, "deepseek_v4"),
    ("deepsee-v4", MODELS, "deepseek_v4"),
    ("lama", MODELS, "llama"),
    ("deepseek_v32", FAMILIES, ""),
    ("deepseek_v3_2", FAMILIES, ""),
    ("deepseek_v4_1", FAMILIES, ""),
    ("llama4", FAMILIES, ""),
    ("qwen2_moe", FAMILIES, ""),
    ("qwen3_next", FAMILIES, ""),
    ("deepseek_v4_prp", CONFIGS, "deepseek_v4_pro"),
    ("v4_flash", CONFIGS, "deepseek_v4_flash"),
    ("deepseek-v4-pro", CONFIGS, "deepseek_v4_pro"),
    *((name, CONFIGS, "") for name in ("deepseek_v4", "deepseek_v4_max", "deepseek_v4_lite")),
    *((name, CONFIGS, "") for name in ("deepseek_v4_pro_0813", "deepseek_v4_1_pro", "v4_1_pro")),
    *((name, CONFIGS, "") for name in ("llama_3_2_8b", "llama_3_1_70b", "qwen3_235b_a22b")),
    # Passes, engines
    ("fuse-atention", PASSES, "fuse-attention"),
    ("fuse-attn", PASSES, "fuse-attention"),
    ("fusemoe", PASSES, "fuse-moe"),
    ("fuse-mlp", PASSES, ""),
    ("fuse", PASSES, ""),
    ("sglng", ENGINES, "sglang"),
    ("vllm-asend", ENGINES, "vllm-ascend"),
    # Formats, units, keys
    *((name, tuple(FORMATS), "") for name in ("f64", "fp8", "f8e5m2", "u8", "f6e3m2", "i16")),
    ("tb/s", tuple(UNITS["bandwidth"]), "TB/s"),
    ("TBs", tuple(UNITS["bandwidth"]), "TB/s"),
    ("capactiy", tuple(MEMORY), "capacity"),
    ("launch_matrx", tuple(PARAMETERS), "launch_matrix"),
    ("launch_mat", tuple(PARAMETERS), "launch_matrix"),
    ("latency", tuple(PROTOCOL), ""),
    ("bacth", tuple(KEYS), "batch"),
    ("ctx", tuple(KEYS), "context"),
    *((name, tuple(KEYS), "") for name in ("pp", "cp", "etp", "moe_tp", "prefix")),
    ("maps", ("map", "init-expert-location"), "map"),
    ("inputs", ("outputs",), ""),
    ("max", ("min",), ""),
]


@pytest.mark.parametrize(("wrong", "known", "meant"), TABLE)
def test_a_hint_is_right_or_absent(wrong: str, known: tuple[str, ...], meant: str) -> None:
    assert nearest(wrong, known) == (f"did you mean {meant}?" if meant else "")


def test_what_is_said_where_nothing_is_near() -> None:
    assert nearest("b200", MACHINES, "write a file") == "write a file"


@given(st.sampled_from([*MACHINES, *CONFIGS, *FORMATS]), st.data())
def test_a_name_with_another_digit_has_no_hint(name: str, data: st.DataObject) -> None:
    """Each digit of a shipped name, changed to any other."""
    places = [at for at, letter in enumerate(name) if letter.isdigit()]
    if not places:
        return
    at = data.draw(st.sampled_from(places))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != name[at]]))
    other = name[:at] + digit + name[at + 1 :]
    known = [*MACHINES, *CONFIGS, *FORMATS]
    assert other in known or nearest(other, known) == ""
