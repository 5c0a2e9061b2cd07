"""Deployments by example: what a text means, each wrong text's error, each impossible deployment.

The examples in docs/deploy.md are read too.
"""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from deployed_models import model_on
from hypothesis import given, settings, strategies as st

from supertile.ir.errors import DEPLOY_TEXTS, UserError
from supertile.ir.even_parts import even_parts
from supertile.targets.deploy import (
    CACHES,
    KEYS,
    Deployment,
    check_deployment,
    deployment_text,
    expert_slots,
    parse_deployment,
)
from supertile.targets.machine import Machine, load_machine, machine_names

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
CONFIGS = {
    "pro": "deepseek_v4_pro",
    "flash": "deepseek_v4_flash",
    "v3": "deepseek_v3",
    "llama": "llama_3_1_8b",
}
MODELS = {name: model_on(file) for name, file in CONFIGS.items()}
MACHINES = {name: load_machine(name) for name in machine_names()}
MACHINES["910c-alone"] = replace(  # with no network beyond the supernode
    MACHINES["ascend-910c"],
    domains=tuple(
        domain for domain in MACHINES["ascend-910c"].domains if domain.name != "scale_out"
    ),
)
ONE = Deployment("decode", 1, 1, 1, 1, 4096, None, None, None, "bf16")
PROMPT = replace(ONE, phase="prefill")
WIDE = replace(ONE, ep=384, dp=384)


def check(deployment: Deployment, model: str, machine: str) -> None:
    check_deployment(deployment, MODELS[model], MACHINES[machine])


def suggested(error: UserError) -> Deployment:
    """The deployment that an error's suggestion names."""
    match = re.fullmatch(r'--deploy "(.*)"', error.suggestion)
    assert match, error
    return parse_deployment(match[1])


# ---- texts and what they mean

# fmt: off
READS = [
    ("phase=decode", ONE),
    ("phase=prefill", PROMPT),
    ("phase=decode ep=384 batch=96 context=4096", replace(WIDE, batch=96)),
    ("batch=96,context=4K,ep=384,phase=decode", replace(WIDE, batch=96)),
    (" ,phase=decode ,\n ep=384\t", WIDE),
    ("phase=decode context=1M", replace(ONE, context=1048576)),
    ("phase=decode context=1m batch=2k", replace(ONE, context=1048576, batch=2048)),
    ("phase=prefill context=8192 chunk=2K", replace(PROMPT, context=8192, chunk=2048)),
    # The world: what is not given is filled in
    ("phase=decode ep=384 tp=2", replace(WIDE, tp=2, dp=192)),
    ("phase=decode ep=384 dp=96", replace(WIDE, tp=4, dp=96)),
    ("phase=decode ep=384 tp=4 dp=96", replace(WIDE, tp=4, dp=96)),
    ("phase=decode tp=8", replace(ONE, tp=8)),
    ("phase=decode tp=8 dp=2", replace(ONE, tp=8, dp=2)),
    ("phase=decode ep=1 dp=2", replace(ONE, dp=2)),
    # Slots: in all, on each rank, rank by rank
    ("phase=decode ep=384 slots=768", replace(WIDE, slots=(2,) * 384)),
    ("phase=decode ep=384 slots=484", replace(WIDE, slots=(2,) * 100 + (1,) * 284)),
    ("phase=decode ep=384 slots=3/rank", replace(WIDE, slots=(3,) * 384)),
    ("phase=decode slots=2x100,1x284 ep=384", replace(WIDE, slots=(2,) * 100 + (1,) * 284)),
    ("phase=decode slots=1x284, 2x100, ep=384", replace(WIDE, slots=(1,) * 284 + (2,) * 100)),
    ("phase=decode slots=384", replace(ONE, slots=(384,))),
    ("phase=decode mtp=0.7", replace(ONE, mtp=0.7)),
    ("phase=decode mtp=0", replace(ONE, mtp=0.0)),
    ("phase=decode mtp=1", replace(ONE, mtp=1.0)),
    ("phase=decode cache=fp8", replace(ONE, cache="fp8")),
]
TEXTS = [  # as outputs name deployments
    (ONE, "phase=decode ep=1 tp=1 dp=1 batch=1 context=4096 cache=bf16"),
    (replace(PROMPT, chunk=512),
     "phase=prefill ep=1 tp=1 dp=1 batch=1 context=4096 chunk=512 cache=bf16"),
    (replace(WIDE, slots=(3,) * 384, mtp=0.7, cache="fp8"),
     "phase=decode ep=384 tp=1 dp=384 batch=1 context=4096 slots=3/rank mtp=0.7 cache=fp8"),
    (replace(WIDE, slots=(2,) * 100 + (1,) * 284, mtp=1.0),
     "phase=decode ep=384 tp=1 dp=384 batch=1 context=4096 slots=2x100,1x284 mtp=1 cache=bf16"),
]
# fmt: on


@pytest.mark.parametrize("text, deployment", READS, ids=[text for text, _ in READS])
def test_a_text_means(text: str, deployment: Deployment) -> None:
    assert parse_deployment(text) == deployment
    assert parse_deployment(deployment_text(deployment)) == deployment


@pytest.mark.parametrize("deployment, text", TEXTS, ids=[text for _, text in TEXTS])
def test_a_deployment_is_written(deployment: Deployment, text: str) -> None:
    assert deployment_text(deployment) == text


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    """Deployments that fit together; not each fits a model and a machine."""
    tp, dp = draw(st.integers(1, 300)), draw(st.integers(1, 40))
    ep = draw(st.sampled_from([1, tp * dp]))
    phase = draw(st.sampled_from(["prefill", "decode"]))
    context = draw(st.integers(1, 2**21))
    few = [*range(1, 4), 500]
    slots = draw(st.none() | st.lists(st.sampled_from(few), min_size=1, max_size=4))
    values: dict[str, Any] = {
        "batch": draw(st.integers(1, 2**31)),
        "context": context,
        "chunk": draw(st.none() | st.integers(1, context)) if phase == "prefill" else None,
        "slots": slots and tuple((slots * ep)[:ep]),
        "mtp": draw(st.none() | st.floats(0, 1e300)) if phase == "decode" else None,
        "cache": draw(st.sampled_from(sorted(CACHES))),
    }
    return Deployment(phase, ep, tp, dp, **values)


@given(deployments())
@settings(max_examples=60, deadline=None)
def test_every_deployment_reads_back(deployment: Deployment) -> None:
    assert parse_deployment(deployment_text(deployment)) == deployment


def test_ranks() -> None:
    assert WIDE.ranks == 384
    assert replace(ONE, tp=8, dp=2).ranks == 16


@pytest.mark.parametrize(
    "ep, model, slots",
    [
        (384, "pro", (1,) * 384),
        (320, "pro", (2,) * 320),
        (768, "pro", (1,) * 768),
        (144, "v3", (2,) * 144),
        (1, "flash", (256,)),
        (1, "llama", ()),
    ],
)
def test_slots_by_default(ep: int, model: str, slots: tuple[int, ...]) -> None:
    assert expert_slots(replace(ONE, ep=ep, dp=ep), MODELS[model]) == slots


def test_given_slots_are_kept() -> None:
    assert expert_slots(replace(ONE, ep=2, dp=2, slots=(300, 84)), MODELS["pro"]) == (300, 84)


@given(st.integers(0, 10**6), st.integers(1, 1000))
@settings(max_examples=50, deadline=None)
def test_parts_are_even(total: int, ranks: int) -> None:
    found = even_parts(total, ranks)
    assert sum(found) == total and len(found) == ranks
    assert max(found) - min(found) <= 1 and [*found] == sorted(found, reverse=True)


# ---- wrong texts

D = "phase=decode "
P = "phase=prefill "
# (text, code without its area, column, deployment that the suggestion names or None)
# fmt: off
WRONG = [
    ("", "no_phase", 1, ONE),
    ("  ", "no_phase", 1, ONE),
    ("ep=384 batch=96", "no_phase", 1, replace(WIDE, batch=96)),
    ("chunk=2K", "no_phase", 1, replace(PROMPT, chunk=2048)),
    ("=3", "syntax", 1, None),
    (D + "ep=3=4", "syntax", 18, None),
    (D + "ep= 3", "no_value", 14, None),
    (D + "ep = 3", "no_value", 14, None),
    (D + "mtp", "no_value", 14, None),
    (D + "mtp= batch=3", "no_value", 14, None),
    (D + "mtp batch=3", "no_value", 14, None),
    (D + "ppp=2", "unknown_key", 14, None),
    (D + "pp=2", "unsaid", 14, None),
    (D + "cache=fp4", "unsaid", 20, None),
    (D + "bacth=2", "unknown_key", 14, None),
    (D + "EP=2", "unknown_key", 14, None),
    (D + "3", "unknown_key", 14, None),
    (D + "ep=2 ep=2", "twice", 19, None),
    ("phase=decod", "value", 7, None),
    ("phase=prefill,3", "value", 7, None),
    (D + "ep=0", "value", 17, None),
    (D + "ep=-1", "value", 17, None),
    (D + "ep=1.5", "value", 17, None),
    (D + "ep=2M", "value", 17, None),
    (D + "batch=", "no_value", 14, None),
    (D + "batch=0", "value", 20, None),
    (D + "batch=4T", "value", 20, None),
    (D + "batch=" + "9" * 5000, "value", 20, None),
    (D + "batch=96,128", "value", 20, None),
    (D + "context=0K", "value", 22, None),
    (D + "context=٣", "value", 22, None),
    (D + "slots=0", "value", 20, None),
    (D + "slots=0/rank", "value", 20, None),
    (D + "slots=3/die", "value", 20, None),
    (D + "slots=2x", "value", 20, None),
    (D + "slots=2x0", "value", 20, None),
    (D + "slots=2x1x1", "value", 20, None),
    (D + "slots=2x100,1", "value", 20, None),
    (D + "slots=1x1M,1x1", "value", 20, None),
    (D + "mtp=70%", "value", 18, None),
    (D + "mtp=-0.5", "value", 18, None),
    (D + "mtp=nan", "value", 18, None),
    (D + "mtp=1e999", "value", 18, None),
    (D + "cache=fp9", "value", 20, None),
    (D + "cache=\x00{0}", "value", 20, None),
    ("phase=decode\nep=x", "value", 4, None),
    # Values that do not fit each other
    (D + "chunk=512", "phase", 20, ONE),
    (P + "mtp=0.7", "phase", 19, PROMPT),
    (P + "chunk=8K", "chunk", 21, replace(PROMPT, chunk=4096)),
    (D + "ep=384 tp=5", "world", 24, replace(WIDE, tp=4, dp=96)),
    (D + "ep=384 dp=100", "world", 24, replace(WIDE, tp=3, dp=128)),
    (D + "ep=4 tp=8", "world", 22, replace(ONE, ep=4, tp=4)),
    (D + "ep=8 tp=2 dp=2", "world", 22, replace(ONE, ep=8, tp=2, dp=4)),
    (D + "ep=4 slots=2x2,1x1", "slot_ranks", 25, replace(ONE, ep=4, dp=4, slots=(2, 1, 1, 1))),
    (D + "ep=4 slots=3", "slot_ranks", 25, replace(ONE, ep=4, dp=4, slots=(1,) * 4)),
    (D + "slots=1x2", "slot_ranks", 20, replace(ONE, slots=(2,))),
]
# fmt: on


@pytest.mark.parametrize("text, code, column, nearest", WRONG, ids=[repr(w[0])[:50] for w in WRONG])
def test_a_wrong_text(text: str, code: str, column: int, nearest: Deployment | None) -> None:
    with pytest.raises(UserError) as caught:
        parse_deployment(text)
    error = caught.value
    assert error.spot is not None
    assert (error.code, error.spot.column) == (f"deploy.{code}", column)
    assert error.spot.file == "--deploy" and error.spot.line == 1 + ("\n" in text)
    if nearest is not None:
        assert suggested(error) == nearest


@pytest.mark.parametrize(
    "text, suggestion",
    [
        (D + "bacth=2", "did you mean batch?"),
        (D + "EP=2", "did you mean ep?"),
        ("phase=decod", "did you mean decode?"),
        (D + "cache=BF16", "did you mean bf16?"),
    ],
)
def test_a_slip_of_the_pen_is_recognised(text: str, suggestion: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_deployment(text)
    assert caught.value.suggestion == suggestion


PIECES = [*KEYS, *"=, \n1x/", "decode", "prefill", "384", "3/rank", "4K", "0.7", "fp8", "2x2", "{é"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=30))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        deployment = parse_deployment(text)
    except UserError as error:
        assert error.code in DEPLOY_TEXTS and error.render()
    else:
        assert parse_deployment(deployment_text(deployment)) == deployment


# ---- deployments on models and machines

# fmt: off
POSSIBLE = [
    ("pro", "ascend-910c", D + "ep=384 batch=96 context=4096"),
    ("pro", "ascend-910c", D + "ep=768 slots=768 context=1M mtp=0.7"),
    ("pro", "910c-alone", D + "ep=768"),
    ("pro", "ascend-950dt", D + "ep=8192 slots=2/rank cache=fp8"),
    ("pro", "ascend-910c", P + "ep=32 tp=16 batch=2 context=64K chunk=8K"),
    ("flash", "h200", D + "ep=8 tp=8 cache=fp8"),
    ("flash", "h200", D + "ep=64 batch=128"),                  # over scale_out
    ("v3", "ascend-910c", D + "ep=288 slots=288 mtp=1 context=160K"),
    ("v3", "gb200-nvl72", D + "ep=72 slots=4/rank"),
    ("llama", "h200", D + "tp=8 dp=4 context=128K"),
    ("llama", "h200", D + "tp=16"),                            # key-value heads held twice
    ("llama", "numpy", D),
]
# (model, machine, text, code without its area, deployment that the suggestion names)
IMPOSSIBLE = [
    ("pro", "910c-alone", D + "ep=1024", "devices", "ep=768 tp=1 dp=768"),
    ("pro", "910c-alone", D + "ep=1000 tp=8", "devices", "ep=768 tp=8 dp=96"),
    ("pro", "910c-alone", D + "ep=1024 slots=2/rank", "devices", "ep=768 slots=3/rank"),
    ("pro", "numpy", D + "ep=16", "devices", "ep=1"),
    ("pro", "numpy", D + "ep=384 slots=768", "devices", "ep=1 slots=384"),
    ("llama", "numpy", D + "tp=4 dp=2", "devices", "tp=1 dp=1"),
    ("llama", "910c-alone", D + "tp=8 dp=200", "devices", "tp=8 dp=96"),
    ("llama", "h200", D + "ep=8 tp=4", "dense", "tp=4 dp=2"),
    ("llama", "h200", D + "ep=8 slots=8", "dense", "dp=8"),
    ("llama", "h200", D + "slots=8", "dense", ""),
    ("pro", "ascend-910c", D + "ep=96 tp=24", "heads", "ep=96 tp=16 dp=6"),
    ("pro", "ascend-910c", D + "ep=64 tp=32", "heads", "ep=64 tp=16 dp=4"),   # 16 output groups
    ("flash", "h200", D + "ep=16 tp=16", "heads", "ep=16 tp=8 dp=2"),         # 8 output groups
    ("v3", "h200", D + "tp=6", "heads", "tp=4"),
    ("llama", "h200", D + "tp=64 dp=2", "heads", "tp=32 dp=2"),
    ("pro", "ascend-910c", D + "ep=192 slots=1/rank", "few_slots", "ep=192 slots=2/rank"),
    ("pro", "ascend-910c", D + "ep=64 slots=5x32,6x32", "few_slots", "ep=64 slots=6/rank"),
    ("pro", "ascend-910c", D + "ep=320 slots=330", "few_slots", "ep=320 slots=384"),
    ("v3", "h200", D + "slots=300/rank", "many_slots", "slots=256"),
    ("pro", "ascend-910c", D + "context=2M", "context", "context=1M"),
    ("v3", "ascend-910c", D + "context=1M", "context", "context=160K"),
    ("v3", "ascend-910c", P + "context=1M chunk=512K", "context", "context=160K chunk=160K"),
    ("llama", "h200", D + "mtp=0.7", "drafts", ""),
    ("pro", "ascend-910c", D + "cache=fp8", "cache", "cache=bf16"),
    # Several at once: the first is named, the suggestion is free of all
    ("llama", "numpy", D + "ep=6 context=1M mtp=0.7 cache=fp8", "dense",
     "context=128K cache=fp8"),
]
FROM_CODE = [  # what no text says
    (replace(ONE, batch=0), "count", ONE),
    (replace(ONE, context=-1), "count", replace(ONE, context=1)),
]
# fmt: on


@pytest.mark.parametrize("model, machine, text", POSSIBLE, ids=[" ".join(p) for p in POSSIBLE])
def test_a_possible_deployment(model: str, machine: str, text: str) -> None:
    check(parse_deployment(text), model, machine)


@pytest.mark.parametrize(
    "model, machine, text, code, nearest", IMPOSSIBLE, ids=[" ".join(i[:3]) for i in IMPOSSIBLE]
)
def test_an_impossible_deployment(
    model: str, machine: str, text: str, code: str, nearest: str
) -> None:
    deployment = parse_deployment(text)
    with pytest.raises(UserError) as caught:
        check(deployment, model, machine)
    assert caught.value.code == f"deploy.{code}"
    found = suggested(caught.value)
    check(found, model, machine)
    assert found == parse_deployment(f"phase={deployment.phase} {nearest}")


@pytest.mark.parametrize("deployment, code, nearest", FROM_CODE)
def test_what_only_code_can_say(deployment: Deployment, code: str, nearest: Deployment) -> None:
    with pytest.raises(UserError) as caught:
        check(deployment, "pro", "ascend-910c")
    assert caught.value.code == f"deploy.{code}"
    assert suggested(caught.value) == nearest


def test_more_accepted_drafts_than_draft_layers_have_no_nearest() -> None:
    with pytest.raises(UserError) as caught:
        check(parse_deployment(D + "mtp=1.5 context=2M"), "pro", "ascend-910c")
    assert (caught.value.code, caught.value.suggestion) == ("deploy.reused_drafts", "")


@pytest.mark.parametrize("mtp", [math.nan, math.inf, -1.0])
def test_no_number_of_drafts(mtp: float) -> None:
    with pytest.raises(UserError) as caught:
        check(replace(ONE, mtp=mtp), "pro", "ascend-910c")
    check(suggested(caught.value), "pro", "ascend-910c")


@given(deployments(), st.sampled_from(sorted(MODELS)), st.sampled_from(sorted(MACHINES)))
@settings(max_examples=150, deadline=None)
def test_the_nearest_is_always_possible(deployment: Deployment, model: str, machine: str) -> None:
    try:
        check(deployment, model, machine)
    except UserError as error:
        nearest = parse_deployment(error.values["nearest"])
        check(nearest, model, machine)
        assert nearest != deployment and nearest.ranks <= deployment.ranks


def test_a_deployment_on_more_ranks_than_dies_reads() -> None:
    with pytest.raises(UserError) as caught:
        check(parse_deployment("phase=decode ep=1024"), "pro", "910c-alone")
    assert caught.value.render() == (
        "error: ascend-910c has fewer devices than the deployment has ranks\n"
        "  expected: at most 768; a rank is one die\n"
        "  found: 1024 ranks\n"
        '  try: --deploy "phase=decode ep=768 tp=1 dp=768 batch=1 context=4096 cache=bf16"'
    )


def test_an_unknown_number_of_devices_is_asked_for() -> None:
    alone = MACHINES["910c-alone"]
    machine: Machine = replace(alone, devices=replace(alone.devices, value=None))
    check_deployment(ONE, MODELS["pro"], machine)
    with pytest.raises(UserError) as caught:
        check_deployment(WIDE, MODELS["pro"], machine)
    assert caught.value.code == "machine.unknown_figure"


# ---- the page, and all errors


def test_the_page() -> None:
    blocks = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    for line in [line for block in blocks for line in block.splitlines()]:
        assert parse_deployment(line)
    assert blocks[-1].strip() == deployment_text(parse_deployment(blocks[-1]))
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)[: len(KEYS)] == [*KEYS]


def test_the_keys_are_the_fields() -> None:
    assert [*KEYS] == [field.name for field in fields(Deployment)]


def test_every_error_has_an_example() -> None:
    codes = [code for _, code, _, _ in WRONG] + [code for _, _, _, code, _ in IMPOSSIBLE]
    codes += [code for _, code, _ in FROM_CODE] + ["reused_drafts", "drafts"]
    assert {f"deploy.{code}" for code in codes} == set(DEPLOY_TEXTS)
