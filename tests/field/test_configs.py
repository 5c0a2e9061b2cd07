"""Configs as users bring them: releases of DeepSeek in other formats, with other layers and drafts.

Each is made of a shipped config: what is added to it, or taken from it, is what the release has.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from supertile.cli.inputs import read_files, shipped_configs, shipped_models
from supertile.cli.main import main

DATA = Path(__file__).parents[1] / "data"
SHIPPED: dict[str, dict[str, Any]] = {
    name: json.loads(path.read_text()) for name, path in shipped_configs().items()
}
V3, FLASH, PRO = (SHIPPED[f"deepseek_{name}"] for name in ("v3", "v4_flash", "v4_pro"))
METADATA = {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 1,
    "initializer_range": 0.02, "transformers_version": "4.57.1", "use_cache": True,
}  # fmt: skip
NVFP4 = {"num_bits": 4, "type": "float", "group_size": 16, "dynamic": False}
INT4 = {"num_bits": 4, "type": "int", "group_size": 32, "strategy": "group"}
INDEXER = {"index_head_dim": 128, "index_n_heads": 64, "index_topk": 2048}
PLAIN = {"quantization_config": ...}
DEPLOY = "--target h200 --deploy 'phase=decode ep=8 batch=16 context=8K{more}'"


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The object with values set; `...` removes a key."""
    return {key: value for key, value in {**base, **changes}.items() if value is not ...}


def supertile(folder: Path, data: dict[str, Any], command: str) -> int:
    """The exit code of a command that names the config `{c}`."""
    (folder / "config.json").write_text(json.dumps(data, indent=1))
    return main(shlex.split(command.format(c=shlex.quote(str(folder)))))


# The model file, the config, and what the paragraph says; `^` before the key that it points at.
REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "V3.1 in NVFP4": (
        "deepseek_v3",
        V3,
        {
            "quantization_config": {
                "quant_method": "modelopt",
                "quant_algo": "NVFP4",
                "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
                "config_groups": {"group_0": {"input_activations": NVFP4, "weights": NVFP4}},
                "ignore": ["lm_head", "model.layers.*.self_attn*"],
            }
        },
        '^quant_method|quant_algo "NVFP4"|weights float of 4 bits|weight_block_size [128, 128]',
    ),
    "R1 in W4A8": (
        "deepseek_v3",
        V3,
        {**PLAIN, "quantize": "w4a8_dynamic", "mla_quantize": "w8a8"},
        '^quantize|"w4a8_dynamic"|`mla_quantize` "w8a8"|stored in another format',
    ),
    "Kimi-K2-Thinking in int4": (
        "deepseek_v3",
        V3,
        {
            "quantization_config": {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {"group_0": {"weights": INT4, "targets": ["Linear"]}},
            }
        },
        '^quant_method|"compressed-tensors"|weights int of 4 bits',
    ),
    "V3.2": (
        "deepseek_v3",
        V3,
        {"model_type": "deepseek_v32", **INDEXER},
        "^model_type|deepseek_v32|docs/language.md",
    ),
    "V3.2 under the name of V3": (
        "deepseek_v3",
        V3,
        INDEXER,
        "^index_head_dim|an indexer chooses|`index_n_heads` 64|`index_topk` 2048",
    ),
    "V4.1 under the name of V4": (
        "deepseek_v4",
        FLASH,
        {"kv_source_layer_ids": [2, 8], "engram_layer_ids": [1, 14], "gate_temp": 2.0},
        "^kv_source_layer_ids|layers share|`engram_layer_ids` a list|`gate_temp` 2.0",
    ),
    "V4 with ratio 1": (
        "deepseek_v4",
        FLASH,
        {"compress_ratios": [1, 1, *FLASH["compress_ratios"][2:]]},
        "^compress_ratios|`compress_ratios[0]` is 1|write 0",
    ),
    "V4 with too few ratios": (
        "deepseek_v4",
        FLASH,
        {"compress_ratios": FLASH["compress_ratios"][:40]},
        "^compress_ratios|expected: 43 or 44|found: 40 entries",
    ),
    "a converted V4": (
        "deepseek_v4",
        FLASH,
        {"model_type": "deepseek_ref"},
        "^model_type|deepseek_ref|docs/language.md",
    ),
    "a converted V4 under its own name": (
        "deepseek_v4",
        FLASH,
        dict.fromkeys(("rms_norm_eps", "rope_theta", "routed_scaling_factor"), ...),
        "the keys `rms_norm_eps`, `rope_theta`, `routed_scaling_factor` are missing",
    ),
    "Llama-4": (
        "llama",
        SHIPPED["llama_3_1_8b"],
        {"model_type": "llama4", "text_config": {"attention_chunk_size": 8192}},
        "^model_type|llama4|docs/language.md",
    ),
    "Mixtral under the name of Llama": (
        "llama",
        SHIPPED["llama_3_1_8b"],
        {"num_local_experts": 8, "num_experts_per_tok": 2},
        "^num_local_experts|which layers have experts|`num_experts_per_tok` 2",
    ),
    "V4-Pro with a slip in its width": (
        "deepseek_v4",
        PRO,
        {"hidden_size": 7000},
        "^hidden_size|cuts a block of `quantization_config.weight_block_size`|multiple of 128",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_release_that_would_compile_to_another_model_is_refused(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, base, changes, said = REFUSED[case]
    assert supertile(tmp_path, changed(base, changes), f"compile {model} --config {{c}}") == 1
    shown = capsys.readouterr()
    assert shown.out == "" and "did you mean" not in shown.err
    place, source, caret, *_ = [*shown.err.splitlines(), ""]
    assert place.startswith(f"{tmp_path / 'config.json'}:")
    for part in said.split("|"):
        if part.startswith("^"):
            assert source[caret.index("^") :].startswith(f'"{part[1:]}"')
        else:
            assert part in shown.err


DESCRIPTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "W4A8 by Ascend": (
        "quant_model_description.json",
        {
            "version": "1.0.0",
            "model_quant_type": "W8A8_DYNAMIC",
            "layers.0.ffn.experts.0.w1.weight": "W4A8_DYNAMIC",
            "layers.0.attn.wq_a.weight": "W8A8_DYNAMIC",
            "embed.weight": "FLOAT",
        },
        "W4A8_DYNAMIC, W8A8_DYNAMIC",
    ),
    "NVFP4 by ModelOpt": (
        "hf_quant_config.json",
        {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}},
        "NVFP4",
    ),
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_what_stands_beside_a_config_counts(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, description, said = DESCRIPTIONS[case]
    (tmp_path / name).write_text(json.dumps(description))
    deploy = "--target ascend-910c --deploy 'phase=decode ep=32 tp=16 batch=16 context=128K'"
    command = f"compile deepseek_v4 --config {{c}} {deploy}"
    assert supertile(tmp_path, changed(PRO, PLAIN), command) == 1
    shown = capsys.readouterr().err
    assert f"{tmp_path / name} stands beside config.json" in shown and f"found: {said}" in shown


def test_a_description_of_plain_weights_refuses_nothing(tmp_path: Path) -> None:
    (tmp_path / "quant_model_description.json").write_text('{"embed.weight": "FLOAT"}')
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": null}}')
    (tmp_path / "config.json").write_text(json.dumps(PRO))
    model, config = shipped_models()["deepseek_v4"], tmp_path / "config.json"
    assert read_files(model, config, "deployed", strict=True)[2] == []


def test_v4_flash_with_the_metadata_of_its_release(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "compile deepseek_v4 --config {c} --strict --stop-after graph"
    assert supertile(tmp_path, changed(FLASH, METADATA), command) == 0
    shown = capsys.readouterr()
    assert "5 functions" in shown.out or "7 functions" in shown.out
    assert shown.err == ""


def test_both_dialects_are_one_model(tmp_path: Path) -> None:
    """A file of transformers has both; with the keys of either alone the layers are the same."""
    both = json.loads((DATA / "deepseek_v4" / "config.json").read_text())
    published = {"compress_ratios", "num_hash_layers", "qk_rope_head_dim"}
    own = {"layer_types", "compress_rates", "mlp_layer_types", "partial_rotary_factor"}
    tables = []
    for gone in (set(), published, own):
        (tmp_path / "config.json").write_text(
            json.dumps({k: both[k] for k in both if k not in gone})
        )
        _, config, told = read_files(
            shipped_models()["deepseek_v4"], tmp_path / "config.json", "reference", strict=True
        )
        assert told == []
        tables.append((config.layers, config.ropes))
    assert tables[0] == tables[1] == tables[2]


# ---- drafts of a block of tokens

DSPARK = {
    "dspark_block_size": 5,
    "dspark_noise_token_id": 128799,
    "dspark_target_layer_ids": [40, 41, 42],
    "dspark_markov_rank": 256,
}
BLOCK_DRAFTS = {
    "V4-Flash-0731": (FLASH, 46, {}),
    "V4-Flash-0731, its stages counted": (FLASH, 46, {"num_nextn_predict_layers": 3}),
    "V4-Pro-0813": (PRO, 64, {"dspark_markov_rank": 512}),
}


def with_stages(case: str) -> dict[str, Any]:
    base, count, more = BLOCK_DRAFTS[case]
    ratios = [*base["compress_ratios"][: base["num_hidden_layers"]], 0, 0, 0]
    assert len(ratios) == count
    return {**base, **METADATA, **DSPARK, **more, "compress_ratios": ratios}


@pytest.mark.parametrize("case", BLOCK_DRAFTS)
def test_the_main_model_does_without_its_drafts(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "compile deepseek_v4 --config {c} --stop-after graph"
    assert supertile(tmp_path, with_stages(case), command) == 0
    shown = capsys.readouterr()
    assert "@logits" in shown.out and "@draft" not in shown.out
    assert shown.err.splitlines() == [f"{tmp_path / 'config.json'}: not read: {', '.join(DSPARK)}"]


def test_of_several_processes_the_first_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    command = "compile deepseek_v4 --config {c} --stop-after graph"
    assert supertile(tmp_path, {**FLASH, "made_up": 3}, command) == 0
    assert capsys.readouterr().err == ""


ASKED_DRAFTS = (
    "compile deepseek_v4 --config {c} --entry draft",
    "compile deepseek_v4 --config {c} " + DEPLOY.format(more=" mtp=2.5"),
    "explain deepseek_v4 --config {c} " + DEPLOY.format(more=" mtp=2.5"),
    "plan deepseek_v4 --config {c} --loads uniform " + DEPLOY.format(more=" mtp=2.5"),
    "run deepseek_v4 --config {c} --weights {c} --tokens {c}/tokens.txt --draft",
)


@pytest.mark.parametrize("command", ASKED_DRAFTS, ids=lambda command: command.split()[0])
def test_drafts_of_a_block_are_refused_by_name(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokens.txt").write_text("1 2 3\n")
    assert supertile(tmp_path, with_stages("V4-Flash-0731"), command) == 1
    error = capsys.readouterr().err
    assert "come from DSpark, which is not read: `dspark_block_size`" in error
    assert "3 stages that draft a block of tokens" in error


# ---- --strict, in every command that takes a config

STRICT = (
    "compile deepseek_v4 --config {c} --strict",
    "compile deepseek_v4 --config {c} --strict " + DEPLOY.format(more=""),
    "explain deepseek_v4 --config {c} --strict " + DEPLOY.format(more=""),
    "plan deepseek_v4 --config {c} --strict "
    + DEPLOY.format(more="")
    + " --loads uniform -o {c}/o",
    "run deepseek_v4 --config {c} --strict --weights {c} --tokens {c}/tokens.txt",
    "bisect deepseek_v4 --config {c} --strict",
    "list ops --model deepseek_v4 --target h200 --config {c} --strict",
)


@pytest.mark.parametrize("command", STRICT, ids=lambda command: " ".join(command.split()[:3]))
def test_strict_takes_no_config_that_is_read_in_part(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokens.txt").write_text("1 2 3\n")
    assert supertile(tmp_path, {**FLASH, "made_up": 3}, command) == 1
    error = capsys.readouterr().err
    assert "not read: made_up, and --strict takes no such file" in error
    assert ' "made_up": 3' in error
