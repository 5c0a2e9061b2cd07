"""A reference that cannot be compared with is refused by the name of what is wrong in it.

By example: the arrays of `deepseek_v4_ties` (see `tests/data/tie_case.py`), and one fault each.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from case_runs import Array, apart, arrays, shared_model

from supertile.ir.error_texts.reference import REFERENCE_TEXTS
from supertile.ir.errors import UserError
from supertile.runtime.engine import Session
from supertile.runtime.follow import Follower
from supertile.runtime.generate import Generator, Request
from supertile.runtime.reference import read_reference
from supertile.runtime.selections import selections
from supertile.runtime.trace import Recorder

CASE = "deepseek_v4_ties"
INDEX = "layers.3.attn.far.index"
CHOSEN = "layers.2.ffn.router.chosen"
TABLE = "layers.0.ffn.router.chosen"
VOCABULARY = 48

Arrays = dict[str, Array]


def reference() -> Arrays:
    return dict(arrays(CASE, "reference.npz"))


def follow(
    changed: Arrays, folder: Path, chunk: int | None = None, lengths: tuple[int, int] = (72, 72)
) -> tuple[Follower, Array]:
    """A run against these arrays: who followed, and the logits."""
    np.savez(folder / "reference.npz", **changed)
    model, ids = shared_model(CASE), arrays(CASE, "reference.npz")["input_ids"]
    rows = [row[:length] for row, length in zip(ids, lengths, strict=True)]
    wanted = list(selections(model.plan, "logits"))
    read = read_reference(str(folder / "reference.npz"), wanted, rows, VOCABULARY)
    recorder = Recorder()
    follower = Follower(
        model.plan, model.weights.get, reference=read, recorder=recorder, selections=wanted
    )
    session = Session(follower, "logits", len(rows), len(rows[0]))
    generated = Generator(session, None, recorder).run(rows, Request(chunk=chunk))
    return follower, generated.logits


@pytest.mark.parametrize("chunk", [None, 7])
def test_every_difference_is_a_tie_of_zeros(tmp_path: Path, chunk: int | None) -> None:
    follower, logits = follow(reference(), tmp_path, chunk)
    assert len(follower.differences) == 20
    assert all(
        difference.is_tie and difference.their_scores == (0, 0)
        for difference in follower.differences
    )
    assert not any(difference.is_route for difference in follower.differences)
    assert apart(logits, reference()["logits"]) < 1e-4


@pytest.mark.parametrize("chunk", [None, 7])
def test_what_is_past_the_end_of_a_sequence_is_not_read(tmp_path: Path, chunk: int | None) -> None:
    changed = reference()
    for name in ("logits", f"{INDEX}.scores", f"{CHOSEN}.scores"):
        changed[name] = changed[name].copy()
        changed[name][1, 50:] = np.nan
    for name in (INDEX, CHOSEN, "input_ids"):
        changed[name] = changed[name].copy()
        changed[name][1, 50:] = -7
    follower, logits = follow(changed, tmp_path, chunk, lengths=(72, 50))
    assert follower.compared == {True: 4 * 122, False: 2 * 122}
    assert all(difference.is_tie for difference in follower.differences)
    assert apart(logits[1, :50], changed["logits"][1, :50]) < 1e-4


def test_selections_are_named_in_the_order_of_their_making() -> None:
    chosen = list(selections(shared_model(CASE).plan, "logits"))
    assert [
        (choice.name, choice.is_route, choice.is_scored, choice.width) for choice in chosen
    ] == [
        ("layers.0.ffn.router.chosen", True, False, 2),
        ("layers.1.attn.far.index", False, True, 8),
        ("layers.1.ffn.router.chosen", True, False, 2),
        ("layers.2.ffn.router.chosen", True, True, 2),
        ("layers.3.attn.far.index", False, True, 8),
        ("layers.3.ffn.router.chosen", True, True, 2),
    ]


# ---- one fault each ------------------------------------------------------------------------------


def without(name: str) -> Callable[[Arrays], None]:
    return lambda changed: changed.pop(name)


def put(name: str, place: tuple[int, ...], value: float) -> Callable[[Arrays], None]:
    """Change one number."""

    def change(changed: Arrays) -> None:
        changed[name] = changed[name].copy()
        changed[name][place] = value

    return change


def with_array(name: str, make: Callable[[Array], Array]) -> Callable[[Arrays], None]:
    """Put what is made of the array in its place."""
    return lambda changed: changed.update({name: make(changed[name])})


def negated_scores(changed: Arrays) -> None:
    changed[f"{CHOSEN}.scores"] = -changed[f"{CHOSEN}.scores"]


# What is wrong: how the reference becomes so, and parts of the paragraph.
WRONG: dict[str, tuple[Callable[[Arrays], object], str]] = {
    "reference.missing, logits": (without("logits"), "no array logits|[B, S, V]"),
    "reference.missing, a route": (without(CHOSEN), f"no array {CHOSEN}|{CHOSEN} [B, S, 2]"),
    "reference.missing, a selection": (without(INDEX), f"no array {INDEX}"),
    "reference.unknown": (
        lambda changed: changed.update({f"{INDEX}.score": changed.pop(f"{INDEX}.scores")}),
        f"{INDEX}.score, which|did you mean {INDEX}.scores?",
    ),
    "reference.unknown, of a table": (
        lambda changed: changed.update({f"{TABLE}.scores": changed[f"{CHOSEN}.scores"]}),
        f"{TABLE}.scores, which",
    ),
    "reference.shape, sequences": (with_array("logits", lambda x: x[:1]), "[2, 72 or more, 48]"),
    "reference.shape, tokens": (with_array(INDEX, lambda x: x[:, :50]), "[2, 50, 8]"),
    "reference.shape, words": (with_array("logits", lambda x: x[..., :40]), "[2, 72, 40]"),
    "reference.shape, too many": (
        with_array(CHOSEN, lambda x: np.concatenate([x, x], -1)),
        "2 or fewer",
    ),
    "reference.shape, experts": (
        with_array(f"{CHOSEN}.scores", lambda x: x[..., :3]),
        f"{CHOSEN}.scores of|[2, 72, 3]",
    ),
    "reference.shape, blocks": (
        with_array(f"{INDEX}.scores", lambda x: x[..., :17]),
        f"{INDEX}.scores of|18 or more",
    ),
    "reference.shape, ids": (with_array("input_ids", lambda x: x[:1]), "input_ids of"),
    "reference.dtype, floats": (with_array(INDEX, lambda x: x * 1.0), "signed integers|float64"),
    "reference.dtype, narrow": (
        with_array(f"{INDEX}.scores", lambda x: x.astype(np.float16)),
        "float32 or float64|float16",
    ),
    "reference.tokens": (put("input_ids", (1, 5), 47), "token 5 of sequence 1 differs"),
    "reference.not_finite, logits": (
        put("logits", (0, 7, 3), np.nan),
        "logits of|has nan at token 7 of sequence 0",
    ),
    "reference.not_finite, scores": (
        put(f"{CHOSEN}.scores", (1, 9, 0), np.nan),
        f"{CHOSEN}.scores of|at token 9 of sequence 1",
    ),
    "reference.beyond, experts": (put(CHOSEN, (0, 3, 1), 4), "chooses 4 for token 3|0 to 3"),
    "reference.beyond, blocks": (put(INDEX, (1, 71, 0), 18), "chooses 18 for token 71|0 to 17"),
    "reference.beyond, the future": (put(INDEX, (0, 40, 0), 10), "chooses 10 for token 40|0 to 9"),
    "reference.beyond, nothing yet": (put(INDEX, (0, 1, 0), 0), "for token 1|sees nothing"),
    "reference.beyond, below": (put(INDEX, (0, 40, 0), -2), "chooses -2 for token 40"),
    "reference.count, none": (put(CHOSEN, (0, 3, 1), -1), "1 different ones for token 3|2:"),
    "reference.count, twice": (
        lambda changed: put(INDEX, (0, 70, 0), changed[INDEX][0, 70, 1])(changed),
        "7 different ones for token 70|8:",
    ),
    "reference.order": (negated_scores, f"{CHOSEN} of|has a larger score|with every bias"),
    "reference.table": (put(TABLE, (0, 0, 0), -1), f"{TABLE} of|table of the checkpoint"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_named(fault: str, tmp_path: Path) -> None:
    change, parts = WRONG[fault]
    changed = reference()
    change(changed)
    with pytest.raises(UserError) as caught:
        follow(changed, tmp_path)
    assert caught.value.code == fault.partition(",")[0]
    for part in parts.split("|"):
        assert part in caught.value.render()


def test_every_text_about_a_file_is_tried() -> None:
    # These are about the command: see `tests/cli/test_run_against.py`.
    elsewhere = {"broken", "alone", "level", "ranks", "pinned", "differs", "error"}
    tried = {case.partition(",")[0] for case in WRONG}
    assert tried | {f"reference.{code}" for code in elsewhere} == REFERENCE_TEXTS.keys()
