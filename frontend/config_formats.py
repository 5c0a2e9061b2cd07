"""How a release says that its weights are stored, against what a model file states.

A model file states the formats of its weights; what a config says may not be otherwise. Releases
say it in `quantization_config`, ModelOpt and Ascend in a file beside config.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from supertile.ir.errors import Spot, UserError
from supertile.ir.files import read_text
from supertile.ir.json_text import first_spot, parse_json, show_json
from supertile.ir.types import f8e4m3, f8e8m0

if TYPE_CHECKING:
    from supertile.frontend.hf_config import Config
    from supertile.frontend.values import FormatValue

KEY = "quantization_config"
DESCRIPTIONS = ("hf_quant_config.json", "quant_model_description.json")
DESCRIPTION_LIMIT = 200_000_000  # bytes; Ascend's names every tensor
# What tells formats apart, in the order in which it is told.
TELLING = (
    "quant_method", "quant_algo", "moe_quant_algo", "format", "fmt", "bits", "group_size",
    "weight_block_size", "activation_scheme", "scale_fmt", "expert_dtype", "kv_cache_quant_algo",
)  # fmt: skip
UNSCALED = "FLOAT"


def check_formats(config: Config, model: str, formats: Mapping[str, FormatValue]) -> None:
    """Raise if the config says that weights are stored otherwise than the model's formats state."""
    stored = config.data.get(KEY)
    if stored is None:
        return
    if not isinstance(stored, Mapping):
        found = show_json(stored)
        raise UserError("config.type", _spot(config), key=KEY, expected="an object", found=found)
    block_formats = [one for one in _weight_formats(formats) if one.element == f8e4m3]
    said = _said(stored)
    if not block_formats:
        raise UserError("config.unquantized", _spot(config), key=KEY, model=model, found=said)
    for key in _differences(stored, block_formats):
        spot = _spot(config, key)
        expected = _said(_statement(block_formats[0]))
        values = {"key": f"{KEY}.{key}", "model": model, "expected": expected, "found": said}
        raise UserError("config.quantized", spot, **values)


def assumed_formats(config: Config, formats: Mapping[str, FormatValue]) -> list[FormatValue]:
    """The formats that weights are taken to have although the config does not say so."""
    return [] if config.data.get(KEY) is not None else _weight_formats(formats)


def refuse_descriptions(config: Path) -> None:
    """Raise if a file beside config.json says that weights are quantised."""
    for name in DESCRIPTIONS:
        file = config.parent / name
        if not file.is_file():
            continue
        text = read_text(str(file), "config", DESCRIPTION_LIMIT)
        formats = sorted(_described(parse_json(str(file), text, "config")))
        if formats:
            found = ", ".join(formats)
            values = {"file": file, "config": config.name, "found": found}
            raise UserError("config.quantized_beside", None, **values)


def _weight_formats(formats: Mapping[str, FormatValue]) -> list[FormatValue]:
    """The formats of weights: those that say what a product brings its other operand to."""
    return [one for one in formats.values() if one.block is not None and one.inputs is not None]


def _statement(held: FormatValue) -> dict[str, object]:
    """What a config says whose weights have this format."""
    assert held.block is not None
    scaled = {"scale_fmt": "ue8m0"} if held.scale == f8e8m0 else {}
    return {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "weight_block_size": [*held.block],
        "activation_scheme": "dynamic",
        **scaled,
    }


# Where nothing is said, what the field calls FP8 in blocks has it so.
OPTIONAL = ("fmt", "activation_scheme", "scale_fmt")
SPELLINGS = {"float8_e4m3fn": "e4m3"}


def _differences(stored: Mapping[str, object], formats: list[FormatValue]) -> Iterator[str]:
    """The keys that say otherwise than each of the formats, or that are not understood."""
    wanted = [_statement(one) for one in formats]
    for key in ("quant_method", "weight_block_size", *OPTIONAL):
        value = stored.get(key)
        value = SPELLINGS.get(value, value) if isinstance(value, str) else value
        if value is None and key in OPTIONAL:
            continue
        # Scales of activations are powers of two in all of them, whatever those of weights are.
        accepted = ["ue8m0"] if key == "scale_fmt" else [one.get(key) for one in wanted]
        if value not in accepted:
            yield key
    for key, value in stored.items():
        if key not in ("quant_method", "weight_block_size", *OPTIONAL) and value:
            yield key


def _said(stored: Mapping[str, object]) -> str:
    """`quant_method "modelopt", quant_algo "NVFP4", weights float 4`"""
    parts = [f"{key} {json.dumps(stored[key])}" for key in TELLING if stored.get(key) is not None]
    groups = stored.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping):
            parts.append(f"weights {weights.get('type')} of {weights.get('num_bits')} bits")
    named = {*TELLING, "config_groups"}
    parts += [
        f"{key} {show_json(value)}" for key, value in stored.items() if key not in named and value
    ]
    return ", ".join(parts) or "an empty object"


def _described(data: object) -> set[str]:
    """The formats other than plain ones that a description names."""
    if not isinstance(data, Mapping):
        return set()
    told = data.get("quantization")
    if isinstance(told, Mapping):
        algorithms = [told.get("quant_algo"), told.get("kv_cache_quant_algo")]
        return {name for name in algorithms if isinstance(name, str)}
    tensors = (value for key, value in data.items() if "." in key)
    return {kind for kind in tensors if isinstance(kind, str) and kind != UNSCALED}


def _spot(config: Config, key: str = "") -> Spot:
    return first_spot(config.file, config.text, f"{KEY}.{key}", KEY)
