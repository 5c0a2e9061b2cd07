"""Keys of a config under a model file: what is followed, refused or told, by example and drawn."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from supertile.frontend import bind, config_keys
from supertile.frontend.config_keys import MEANINGS, is_harmless
from supertile.frontend.families.common import Rope
from supertile.frontend.hf_config import normalize
from supertile.frontend.program import Program, load_program
from supertile.frontend.settle import settle
from supertile.frontend.shipped import shipped_model
from supertile.ir.errors import UserError

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("tests/data/*/config.json"), *ROOT.glob("models/configs/*.json")])
CONFIGS: dict[str, dict[str, Any]] = {
    f"{file.parent.name}/{file.stem}": json.loads(file.read_text()) for file in FILES
}
ORACLE = sorted((ROOT / "tests" / "data" / "oracle").glob("*.npz"))
PUBLISHED = [name for name in CONFIGS if name.startswith("configs/")]
V3, V4 = CONFIGS["configs/deepseek_v3"], CONFIGS["configs/deepseek_v4_flash"]
LLAMA, QWEN = CONFIGS["configs/llama_3_1_8b"], CONFIGS["configs/qwen3_30b_a3b"]
bases = st.sampled_from(sorted(CONFIGS))


@cache
def program(family: str) -> Program:
    path = shipped_model(family)
    assert path is not None
    return load_program(path)


def remarks(data: dict[str, Any], family: str, numerics: str = "reference") -> list[str]:
    """What is told of a config under the model file of a family; raises what is refused."""
    file = program(family)
    text = json.dumps(data, indent=1)
    config = settle(file, normalize(data, "config.json", text))
    bind.check_config(file, config)
    return [remark.line for remark in bind.remarks_on(file, config, numerics)]


def refused(data: dict[str, Any], family: str | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        remarks(data, family or data["model_type"])
    assert caught.value.spot is not None and caught.value.spot.file == "config.json"
    return caught.value


def answer(data: dict[str, Any], family: str) -> str:
    """All that a user is told, whether the config is taken or not."""
    try:
        return "\n".join(remarks(data, family))
    except UserError as error:
        return error.render()


# ---- what is known to load


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_load_without_a_word(name: str) -> None:
    assert remarks(CONFIGS[name], CONFIGS[name]["model_type"]) == []


@pytest.mark.parametrize("file", ORACLE, ids=lambda file: file.stem)
def test_configs_of_cases_load_without_a_word(file: Path) -> None:
    with np.load(file) as arrays:
        data = json.loads(str(arrays["config"]))
    assert remarks(data, data["model_type"]) == []


def test_a_context_beyond_the_reach_of_its_rope_is_told() -> None:
    line = "max_position_embeddings 2097152 is beyond the 65536 x 16 tokens that rope_scaling"
    found = remarks({**V4, "max_position_embeddings": 2**21}, "deepseek_v4")
    assert found == [f"{line} stretches positions to"]


# ---- keys of other models

# Keys of released models, with values that change something.
ARCHITECTURE: dict[str, Any] = {
    "index_topk": 2048, "indexer_types": ["full"], "engram_layer_ids": [1, 14],
    "kv_source_layer_ids": [2, 8], "candidate_topk_blocks": 2048, "num_kv_shared_layers": 10,
    "compress_ratios": [4], "hc_mult": 4, "altup_num_inputs": 4, "laurel_rank": 64,
    "text_config": {"hidden_size": 8}, "vision_config": {"depth": 3}, "sliding_window": 4096,
    "layer_types": ["full_attention", "sliding_attention"], "attention_chunk_size": 8192,
    "no_rope_layers": [1, 0], "full_attention_interval": 4, "attention_sink": True,
    "use_qk_norm": True, "qk_layernorm": True, "qk_norm_type": "per_layer",
    "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0, "clip_qkv": 8.0,
    "residual_multiplier": 0.22, "logits_scaling": 8.0, "scale_emb": 12, "attn_output_gate": True,
    "attention_out_bias": True, "qkv_bias": True, "linear_num_key_heads": 16, "mamba_d_state": 128,
    "full_attn_alpha_factor": 2.0, "partial_rotary_factor": 0.75, "rotary_dim": 64,
    "rope_local_base_freq": 10000.0, "position_embedding_type": "alibi", "gate_temp": 2.0,
    "quantize": "w4a8_dynamic", "mla_quantize": "w8a8", "kv_cache_dtype": "fp8",
    "num_local_experts": 8, "experts_per_token": 4, "shared_expert_intermediate_size": 512,
    "moe_layers": [1, 3], "interleave_moe_layer_step": 2, "zero_expert_num": 128,
    "swiglu_alpha": 1.7, "multi_query": True, "use_post_norm": True, "parallel_attn": True,
    "is_encoder_decoder": True, "rope_scaling": {"type": "yarn", "factor": 4, "truncate": False},
    "use_rope": False, "topk_method": "greedy", "num_hash_layers": 3, "ffn_dim": 100,
    "shared_intermediate_size": 256, "hidden_size_per_layer_input": 256, "H_cycles": 2,
    "ngram_size": 4, "layer_rope_theta": [1e4], "num_attention_heads_per_layer": [8],
    "tie_word_embeddings": True, "compression_config": {"format": "int-quantized"}, "w_bits": 4,
    "act_fn": "gelu",
}  # fmt: skip


@given(bases, st.sampled_from(sorted(ARCHITECTURE)))
def test_a_key_that_changes_the_model_is_read_or_refused(name: str, key: str) -> None:
    base = CONFIGS[name]
    told = answer({**base, key: ARCHITECTURE[key]}, base["model_type"])
    assert key in base or (key in told and ": error: " in told), told


@given(bases, st.sampled_from(sorted(ARCHITECTURE)))
def test_a_key_that_is_null_says_nothing(name: str, key: str) -> None:
    base = CONFIGS[name]
    family = base["model_type"]
    assert key in base or remarks({**base, key: None}, family) == remarks(base, family)


def test_the_error_names_every_such_key_and_what_it_means() -> None:
    error = refused({**V3, "index_topk": 2048, "index_n_heads": 64})
    assert error.code == "config.architecture"
    assert error.message == (
        "`index_topk` changes the model, and deepseek_v3.st does not read it: "
        "an indexer chooses what each token attends to (DeepSeek-V3.2)"
    )
    assert error.found == "2048, and `index_n_heads` 64"


@pytest.mark.parametrize(
    ("base", "key", "value"),
    [
        (LLAMA, "sliding_window", None),
        (LLAMA, "layer_types", ["full_attention"] * 32),
        (LLAMA, "partial_rotary_factor", 1.0),
        (LLAMA, "num_local_experts", 0),
        (LLAMA, "norm_topk_prob", True),
        (QWEN, "sliding_window", 4096),  # use_sliding_window is false
        (V3, "mlp_layer_types", ["dense"] * 3 + ["sparse"] * 58),
        (V3, "num_attention_heads", 128),
        (V3, "use_qk_norm", False),
        (V4, "attention_dropout", 0.1),
        (V4, "generation_token_id", None),
        (V4, "image_pad_token_id", 7),
    ],
)
def test_what_changes_nothing_is_silent(base: dict[str, Any], key: str, value: object) -> None:
    assert remarks({**base, key: value}, base["model_type"]) == []


@pytest.mark.parametrize("meaning", MEANINGS, ids=lambda meaning: meaning.text[:24])
def test_every_meaning_has_an_example(meaning: Any) -> None:
    known = {*ARCHITECTURE, *(key for base in CONFIGS.values() for key in base), "chunk_size"}
    assert any(meaning.form.fullmatch(key) for key in known), meaning.form.pattern


# ---- keys that nobody knows


def test_a_key_that_the_table_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_keys, "MEANINGS", ())
    assert remarks({**V3, "index_topk": 2048}, "deepseek_v3") == ["not read: index_topk"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_unknown_key_is_told(name: str) -> None:
    base = CONFIGS[name]
    assert remarks({**base, "made_up": 3, "other": [1]}, base["model_type"]) == [
        "not read: made_up, other"
    ]


@given(st.sampled_from(PUBLISHED), st.text("abcxyz", min_size=5, max_size=8), st.data())
def test_an_unknown_key_is_never_silent_at_any_depth(
    name: str, key: str, data: st.DataObject
) -> None:
    changed = copy.deepcopy(CONFIGS[name])
    places = [(), *((key,) for key, value in changed.items() if isinstance(value, dict))]
    place = data.draw(st.sampled_from(places))
    inner = changed[place[0]] if place else changed
    inner[key] = data.draw(st.integers(1, 9) | st.text("ab", min_size=1) | st.just(True))
    assert key in answer(changed, changed["model_type"])


@given(st.sampled_from(PUBLISHED), st.data())
def test_a_renamed_key_is_never_silent(name: str, data: st.DataObject) -> None:
    base = CONFIGS[name]
    key = data.draw(st.sampled_from(sorted(key for key in base if not is_harmless(key))))
    changed = {f"{other}_own" if other == key else other: value for other, value in base.items()}
    told = answer(changed, base["model_type"])
    # What is off may go by any name.
    assert key in told or ": error: " in told or not base[key]


# What a release may leave out: the file of the model or of its family says what holds then.
DEFAULTS = {
    *("hc_mult", "hc_sinkhorn_iters", "hc_eps", "swiglu_limit", "expert_dtype", "head_dim"),
    *("num_nextn_predict_layers", "num_key_value_heads", "moe_layer_freq", "rope_scaling"),
    *("rope_theta", "decoder_sparse_step", "mlp_only_layers", "quantization_config"),
    *("tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act", "use_sliding_window"),
    *("scoring_func", "topk_method", "norm_topk_prob", "sliding_window", "max_window_layers"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_dropped_key_is_missing_or_has_a_default(name: str) -> None:
    base = CONFIGS[name]
    for key in [key for key in base if not is_harmless(key)]:
        dropped = {other: value for other, value in base.items() if other != key}
        told = answer(dropped, base["model_type"])
        if f"`{key}`" not in told:
            meant = [one for one in MEANINGS if one.form.fullmatch(key)]
            assert key in DEFAULTS or not meant, f"{key} may be left out without a word"


@pytest.mark.parametrize(
    ("name", "theta", "eps"),
    [("llama_3_1_8b", 1e4, 1e-6), ("qwen3_30b_a3b", 1e4, 1e-6), ("mixtral_8x7b", 1e6, 1e-5)],
)
def test_defaults_are_those_of_transformers(name: str, theta: float, eps: float) -> None:
    base = CONFIGS[f"configs/{name}"]
    gone = ("rope_theta", "rms_norm_eps", "rope_scaling")
    data = {key: value for key, value in base.items() if key not in gone}
    config = settle(program(base["model_type"]), normalize(data, "config.json", json.dumps(data)))
    rope = config.names["turn"]
    assert isinstance(rope, Rope) and (rope.theta, config.names["eps"]) == (theta, eps)


# ---- numbers against each other, whichever model has them


@pytest.mark.parametrize(
    ("base", "changes", "keys"),
    [
        (LLAMA, {"num_key_value_heads": 5}, ("num_key_value_heads", "num_attention_heads")),
        (QWEN, {"num_experts_per_tok": 129}, ("num_experts_per_tok", "num_experts")),
        (QWEN, {"first_k_dense_replace": 49}, ("first_k_dense_replace", "num_hidden_layers")),
        (LLAMA, {"layer_types": ["full_attention"] * 31}, ("layer_types", "32")),
        (V3, {"first_k_dense_replace": 62}, ("first_k_dense_replace", "num_hidden_layers")),
        (V4, {"hidden_size": 7000}, ("hidden_size", "quantization_config.weight_block_size")),
        (V4, {"num_attention_heads": 20}, ("o_groups", "num_attention_heads")),
        (LLAMA, {"bos_token_id": 128256}, ("bos_token_id", "vocab_size")),
    ],
)
def test_numbers_that_cannot_both_be_meant(
    base: dict[str, Any], changes: dict[str, Any], keys: tuple[str, str]
) -> None:
    error = refused({**base, **changes})
    assert all(key in error.render() for key in keys)


# ---- any damage

scalars = st.none() | st.booleans() | st.integers(-2, 10**7) | st.floats() | st.text(max_size=3)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
)


@given(bases, st.data())
def test_any_damage_is_taken_or_one_error(name: str, data: st.DataObject) -> None:
    """Keys dropped, nulled, retyped, renamed, added at any depth; numbers a little off."""
    changed = copy.deepcopy(CONFIGS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        damage(changed, data)
    try:
        remarks(changed, CONFIGS[name]["model_type"])
    except UserError as error:
        assert error.spot is not None and len(error.render()) < 4000


def damage(changed: dict[str, Any], data: st.DataObject) -> None:
    outer = [changed, *(value for value in changed.values() if isinstance(value, dict))]
    place = outer[data.draw(st.integers(0, len(outer) - 1))]
    if not place:
        return
    key = data.draw(st.sampled_from(sorted(place)))
    kind = data.draw(st.sampled_from(["drop", "null", "retype", "rename", "perturb", "add"]))
    value = place[key]
    if kind in ("drop", "rename"):
        del place[key]
    if kind in ("rename", "add"):
        place[data.draw(st.text(max_size=8))] = value if kind == "rename" else data.draw(values)
    if kind == "null":
        place[key] = None
    if kind == "retype":
        place[key] = data.draw(values)
    if kind == "perturb" and isinstance(value, int | float) and not isinstance(value, bool):
        place[key] = data.draw(
            st.sampled_from([value + 1, value - 1, value * 2, -value, value / 2])
        )


# ---- how weights are stored

FP8: dict[str, Any] = V3["quantization_config"]
GROUP = {"weights": {"num_bits": 4, "type": "int", "group_size": 32, "strategy": "group"}}
STORED: dict[str, tuple[dict[str, Any], str, str]] = {
    "NVFP4 of ModelOpt": (
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]},
        "quant_method",
        'quant_algo "NVFP4"',
    ),
    "NVFP4 experts of V4": ({**FP8, "moe_quant_algo": "NVFP4"}, "moe_quant_algo", '"NVFP4"'),
    "int4 of compressed-tensors": (
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": GROUP}},
        "quant_method",
        "weights int of 4 bits",
    ),
    "AWQ": ({"quant_method": "awq", "bits": 4, "group_size": 128}, "quant_method", "bits 4"),
    "GPTQ": ({"quant_method": "gptq", "bits": 4, "sym": False}, "quant_method", '"gptq"'),
    "MXFP4": ({"quant_method": "mxfp4"}, "quant_method", '"mxfp4"'),
    "blocks of V4.1": ({**FP8, "weight_block_size": [32, 32]}, "weight_block_size", "[32, 32]"),
    "one scale a tensor": ({**FP8, "weight_block_size": None}, "weight_block_size", '"fp8"'),
    "scales known before": ({**FP8, "activation_scheme": "static"}, "activation_scheme", "static"),
    "other codes": ({**FP8, "fmt": "e5m2"}, "fmt", "e5m2"),
    "other scales": ({**FP8, "scale_fmt": "float"}, "scale_fmt", "float"),
    "modules left out": ({**FP8, "modules_to_not_convert": ["gate"]}, "modules_to_not", "a list"),
    "caches": ({**FP8, "kv_cache_quant_algo": "FP8"}, "kv_cache_quant_algo", '"FP8"'),
    "experts apart": ({**FP8, "expert_dtype": "fp4"}, "expert_dtype", '"fp4"'),
    "what nobody knows": ({**FP8, "made_up": 1}, "made_up", "made_up 1"),
}


@pytest.mark.parametrize("case", STORED)
@pytest.mark.parametrize("base", [V3, V4], ids=lambda base: base["model_type"])
def test_weights_stored_otherwise_are_refused_by_name(base: dict[str, Any], case: str) -> None:
    stored, key, found = STORED[case]
    error = refused({**base, "quantization_config": stored})
    assert error.code in ("config.quantized", "config.blocks")
    if error.code == "config.quantized":
        assert f"quantization_config.{key}" in error.message and found in error.found
        assert "weight_block_size [128, 128]" in error.expected


@pytest.mark.parametrize("base", [LLAMA, QWEN], ids=lambda base: base["model_type"])
def test_a_model_of_plain_weights_takes_no_quantised_release(base: dict[str, Any]) -> None:
    assert refused({**base, "quantization_config": FP8}).code == "config.unquantized"


@pytest.mark.parametrize("stored", [FP8, {**FP8, "scale_fmt": "ue8m0", "fmt": "float8_e4m3fn"}])
def test_what_the_model_file_states_may_be_said(stored: dict[str, Any]) -> None:
    assert remarks({**V3, "quantization_config": stored}, "deepseek_v3") == []


def test_formats_that_are_assumed_are_told_where_they_count() -> None:
    plain = {key: value for key, value in V3.items() if key != "quantization_config"}
    line = "no quantization_config: weights are taken as deepseek_v3.st states them, fp8"
    assert remarks(plain, "deepseek_v3", "deployed") == [line]
    assert remarks(plain, "deepseek_v3") == []
    cut = remarks({**plain, "hidden_size": 7000}, "deepseek_v3", "deployed")
    assert cut == [f"{line}, in blocks of 128 that hidden_size 7000 cut"]
