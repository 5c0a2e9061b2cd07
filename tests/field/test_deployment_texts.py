"""Deployments that people run on engines: the text says them, or they are refused by name.

No refusal suggests a text that would answer another question.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from deployed_models import model_on

from supertile.cli.main import main
from supertile.ir.errors import UserError
from supertile.targets.deploy import (
    check_deployment,
    deployment_text,
    expert_slots,
    parse_deployment,
)
from supertile.targets.deployment_rules import MODEL_RULES
from supertile.targets.machine import load_machine

DATA = Path(__file__).parents[1] / "data"


# What an engine runs, the text that would say it, and the words by which it is refused.
UNSAID = [
    ("pipeline stages", "phase=decode ep=8 pp=2 batch=16", "pp=2"),
    ("experts that are sliced over the ranks of several groups",
     "phase=decode dp=8 moe_tp=8 batch=16", "moe_tp=8"),
    ("prompt tokens whose cache is there before the prefill",
     "phase=prefill ep=8 context=64K prefix=57600 batch=1", "prefix=57600"),
    ("steps that mix prefill and decode", "phase=mixed ep=8 batch=64", "phase=mixed"),
    ("caches in 4 bits", "phase=decode ep=8 batch=1 cache=nvfp4", "cache=nvfp4"),
    ("caches in INT8", "phase=decode ep=8 batch=1 cache=int8", "cache=int8"),
    ("sequences that are cut over ranks", "phase=prefill ep=8 CP=4", "CP=4"),
    ("drafts of a layer that runs several times a step", "phase=decode next_n=3", "next_n=3"),
    ("caches that move from prefill to decode", "phase=decode ep=8 transfer=1", "transfer=1"),
    ("caches that move to the host's memory", "phase=decode offload=0.5", "offload=0.5"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "text", "part"), UNSAID)
def test_what_no_deployment_says_is_refused_by_name(what: str, text: str, part: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_deployment(text)
    error = caught.value
    assert error.code == "deploy.unsaid"
    assert f"`{part}`: {what}" in error.message
    assert error.suggestion == ""
    assert error.spot is not None and part.split("=")[1] in text[error.spot.column - 1 :]


def test_it_is_refused_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = "phase=decode ep=8 pp=2 batch=16"
    model = ["deepseek_v4", "--config", "deepseek_v4_flash", "--target", "h200"]
    assert main(["compile", *model, "--deploy", text]) == 1
    assert capsys.readouterr().err == (
        "--deploy:1:19: error: a deployment cannot say `pp=2`: pipeline stages are not costed\n"
        "    1 | phase=decode ep=8 pp=2 batch=16\n"
        "                          ^\n"
        "  expected: what these keys say: phase, ep, tp, dp, batch, context, chunk, slots, mtp, "
        "cache\n"
    )


def test_more_drafts_than_draft_layers_are_another_question() -> None:
    """Three speculative tokens of one draft layer, of which 1.49 are accepted."""
    model = model_on("deepseek_v4_pro", "gb300-nvl72")
    deployment = parse_deployment("phase=decode ep=8 batch=32 context=2M mtp=1.49")
    with pytest.raises(UserError) as caught:
        check_deployment(deployment, model, load_machine("gb300-nvl72"))
    error = caught.value
    assert error.code == "deploy.reused_drafts"  # though the context is too long as well
    assert "a draft layer that runs several times a step is not costed" in error.message
    assert (error.found, error.suggestion) == ("mtp=1.49", "")
    assert MODEL_RULES[0].__name__ == "reused_drafts"


def test_heads_that_twelve_ranks_cannot_share() -> None:
    """64 heads on 12 ranks: the nearest keeps the ranks, and says what changes."""
    model = model_on("deepseek_v4_flash", "ascend-910c")
    deployment = parse_deployment("phase=decode ep=12 tp=12 batch=16 context=128K")
    with pytest.raises(UserError) as caught:
        check_deployment(deployment, model, load_machine("ascend-910c"))
    assert caught.value.expected == "a tp among which 64 heads divide"
    assert "ep=12 tp=4 dp=3 batch=16" in caught.value.suggestion


def test_experts_that_ranks_do_not_divide() -> None:
    """256 experts on 72 ranks: four a rank, 288 slots in all."""
    model = model_on("deepseek_v3", "gb200-nvl72")
    deployment = parse_deployment("phase=decode ep=72 batch=64 context=4096")
    check_deployment(deployment, model, load_machine("gb200-nvl72"))
    assert expert_slots(deployment, model) == (4,) * 72


def test_prefill_and_decode_on_machines_of_their_own_are_two_deployments() -> None:
    machine, model = load_machine("ascend-910c"), model_on("deepseek_v3", "ascend-910c")
    for text in (
        "phase=prefill ep=16 tp=8 dp=2 batch=1 context=16384 cache=bf16",
        "phase=decode ep=32 tp=1 dp=32 batch=24 context=16384 cache=bf16",
    ):
        deployment = parse_deployment(text)
        check_deployment(deployment, model, machine)
        assert deployment_text(deployment) == text


def test_groups_that_each_hold_all_experts_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Data-parallel attention with experts sliced over all ranks is not what `ep=1 dp=8` says."""
    config = str(DATA / "qwen3_moe" / "config.json")
    model = ["qwen3_moe", "--config", config, "--target", "h200", "--no-cache"]
    for deploy, is_told in (("dp=8", True), ("ep=8", False)):
        text = f"phase=decode {deploy} batch=4 context=64"
        assert main(["compile", *model, "--deploy", text]) == 0
        output = " ".join(capsys.readouterr().out.split())
        note = "Each of the 8 groups holds all 16 experts of a layer: a deployment cannot say"
        assert (note in output) == is_told
