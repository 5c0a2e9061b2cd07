"""Reference numerics, whole models: the stored logits come out however the tokens are fed."""

import numpy as np
import pytest
from case_runs import FEEDS, TOLERANCE, Array, Rows, apart, arrays, rows_of, shared_model

from supertile.runtime.generate import Request

# Case: the arrays that all hold its logits.
LOGITS = {
    "deepseek_v4": ("logits_prefill", "logits_decode", "logits_chunk"),
    "deepseek_v3": ("logits_prefill", "logits_decode"),
    "llama": ("logits_prefill", "logits_decode"),
    "qwen3_moe": ("logits_prefill", "logits_decode"),
    "deepseek_v4_deployed": ("logits_reference",),
}
DRAFTS = {"deepseek_v4_deployed": "mtp_logits_reference"}

# How many tokens of each row: unequal, of one row next to none, of neither all.
RAGGED = {"one full": (1, None), "both cut": (18, 29), "nearly equal": (None, -1)}

cases = pytest.mark.parametrize("case", LOGITS)


def cut(case: str, lengths: tuple[int | None, ...]) -> Rows:
    return [row[:length] for row, length in zip(rows_of(case), lengths, strict=True)]


def stored(case: str) -> Array:
    return arrays(case, "io.npz")[LOGITS[case][0]]


@cases
@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)
def test_logits_are_those_stored(case: str, feed: Request) -> None:
    found = shared_model(case).run(rows_of(case), feed)
    for name in LOGITS[case]:
        assert apart(found.logits, arrays(case, "io.npz")[name]) < TOLERANCE
    if case in DRAFTS:
        assert found.draft is not None
        assert apart(found.draft, arrays(case, "io.npz")[DRAFTS[case]]) < TOLERANCE


@cases
@pytest.mark.parametrize("lengths", RAGGED.values(), ids=RAGGED)
@pytest.mark.parametrize("feed", [Request(), Request(chunk=7), Request(prompt=5, teacher=True)])
def test_rows_of_unequal_length_do_not_meet(
    case: str, lengths: tuple[int | None, ...], feed: Request
) -> None:
    model, rows = shared_model(case), cut(case, lengths)
    together = model.run(rows, feed)
    for b, row in enumerate(rows):
        alone = model.run([row], feed)
        found = together.logits[b, : len(row)]
        assert apart(found, alone.logits[0]) < TOLERANCE
        assert apart(found, stored(case)[b, : len(row)]) < TOLERANCE
        assert np.isnan(together.logits[b, len(row) :]).all()
        if together.draft is not None and alone.draft is not None:
            assert apart(together.draft[b, : len(row) - 1], alone.draft[0]) < TOLERANCE


@cases
def test_greedy_decoding_is_that_of_the_logits(case: str) -> None:
    model, prompts = shared_model(case), cut(case, (3, 9))
    decoded = model.run(prompts, Request(decode=6))
    for b, prompt in enumerate(prompts):
        tokens = decoded.tokens[b, : len(prompt) + 6]
        again = model.run([tokens[:-1]]).logits[0]
        assert tokens[len(prompt) :].tolist() == again[len(prompt) - 1 :].argmax(-1).tolist()
        assert apart(decoded.logits[b, : len(again)], again) < TOLERANCE
