"""Generation: every way to feed a batch, greedy decoding, drafts, logits that are no numbers."""

import numpy as np
import pytest
from small_models import Array, random_weights, runs, small_module

from supertile.runtime.generate import Generated, Request
from supertile.runtime.nonfinite import NonFiniteError

ROWS = [[1, 2, 3, 4, 5, 6, 7], [8, 9, 10], [3]]


@pytest.fixture(scope="module")
def module(tmp_path_factory):  # type: ignore[no-untyped-def]
    return small_module(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def whole(module) -> Generated:  # type: ignore[no-untyped-def]
    return runs(module, ROWS)


def same(found: Array, expected: Array) -> bool:
    return found.shape == expected.shape and np.allclose(found, expected, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    "request_",
    [
        Request(chunk=1),
        Request(chunk=2),
        Request(chunk=100),
        Request(prompt=100),
        Request(prompt=2, teacher=True),
        Request(prompt=5, chunk=3, teacher=True),
        Request(prompt=2, chunk=7, teacher=True),
        Request(teacher=True),
        Request(decode=0),
    ],
    ids=repr,
)
def test_every_feed_gives_the_logits_of_one_call(module, whole, request_) -> None:  # type: ignore[no-untyped-def]
    found = runs(module, ROWS, request_)
    assert same(found.logits, whole.logits)
    assert same(found.draft, whole.draft)
    assert found.lengths.tolist() == [7, 3, 1]
    assert found.tokens.tolist() == whole.tokens.tolist()


def test_past_the_end_of_a_row(whole) -> None:  # type: ignore[no-untyped-def]
    assert whole.tokens[1].tolist() == [8, 9, 10, -1, -1, -1, -1]
    assert np.isnan(whole.logits[1, 3:]).all() and not np.isnan(whole.logits[1, :3]).any()


def test_a_prompt_alone_leaves_the_rest(module, whole) -> None:  # type: ignore[no-untyped-def]
    found = runs(module, ROWS, Request(prompt=2))
    assert found.lengths.tolist() == [2, 2, 1]
    assert same(found.logits, whole.logits[:, :2] * [[[1]], [[1]], [[1]]])


@pytest.mark.parametrize("prompt", [None, 2])
@pytest.mark.parametrize("teacher", [False, True])
def test_decoding_takes_the_most_likely_token(module, prompt, teacher) -> None:  # type: ignore[no-untyped-def]
    decoded = runs(module, ROWS, Request(prompt=prompt, teacher=teacher, decode=5))
    for b, row in enumerate(ROWS):
        fed = len(row) if teacher else len(row[:prompt])
        tokens = decoded.tokens[b][decoded.tokens[b] >= 0].tolist()
        assert len(tokens) == fed + 5
        assert tokens[:fed] == row[:fed]
        again = runs(module, [tokens]).logits[0]
        assert tokens[fed:] == again[fed - 1 : -1].argmax(-1).tolist()
        assert decoded.lengths[b] == fed + 4


def test_ties_go_to_the_smaller_token(module) -> None:  # type: ignore[no-untyped-def]
    def zeros(use, layer):  # type: ignore[no-untyped-def]
        return np.zeros(use.kind.get_shape(), np.float32)

    assert runs(module, [[5]], Request(decode=2), weights=zeros).tokens.tolist() == [[5, 0, 0]]


def test_the_draft_sees_the_stream_and_the_next_token(module) -> None:  # type: ignore[no-untyped-def]
    """Position t reads stream t and token t + 1: the last token changes the last draft alone."""
    first = runs(module, [[1, 2, 3, 4]]).draft
    other = runs(module, [[1, 2, 3, 9]]).draft
    assert first is not None and other is not None
    assert first.shape == (1, 3, 11)
    assert same(first[:, :2], other[:, :2])
    assert not same(first[:, 2], other[:, 2])


def test_the_draft_of_single_tokens_is_empty(module) -> None:  # type: ignore[no-untyped-def]
    assert runs(module, [[1], [2]]).draft.shape == (2, 0, 11)


def test_the_draft_follows_decoding(module) -> None:  # type: ignore[no-untyped-def]
    decoded = runs(module, [[1, 2, 3]], Request(decode=4))
    again = runs(module, [decoded.tokens[0, :-1].tolist()])
    assert same(decoded.draft, again.draft)


def test_logits_that_are_no_numbers(module) -> None:  # type: ignore[no-untyped-def]
    """A weight that is too large, of the last layer; the draft head does not read it."""

    def weights(use, layer):  # type: ignore[no-untyped-def]
        held = random_weights(use, layer)
        return held * np.float32(1e38) if "scale" in use.pattern and layer == 1 else held

    with pytest.raises(NonFiniteError) as caught:
        runs(module, [[1, 2, 9], [1, 9]], Request(prompt=2, decode=1), weights=weights)
    assert (caught.value.what, caught.value.token) == ("logits", 0)
