"""Made-up loads: the text that asks for them, their laws, and counts from routings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from deployed_models import model_on
from hypothesis import given, strategies as st
from plan_models import MIXED, SPARSE, TABLE
from safetensors.numpy import save_file

from supertile.ir.errors import UserError
from supertile.runtime.checkpoint import Checkpoint
from supertile.targets.plan.argument import loads_from
from supertile.targets.plan.load_text import (
    EXPONENT_LIMIT,
    LAWS,
    WINDOW_LIMIT,
    LoadsText,
    parse_loads_text,
)
from supertile.targets.plan.model import ExpertLayers, expert_layers, layers_text
from supertile.targets.plan.parametric import (
    TOKENS,
    hash_tables,
    made_table,
    parametric_loads,
    token_frequency,
    with_hashed,
)
from supertile.targets.plan.routings import hash_layer_loads, pairs_of, routing_loads

WIDE = ExpertLayers("wide", 2, (0, 1), (0,), 64, 6, 1000)


def error(text: str) -> UserError:
    with pytest.raises(UserError) as caught:
        loads_from(text, SPARSE)
    return caught.value


# ---- models


def test_layers_of_the_shipped_models():
    pro, flash, dense = (
        expert_layers(model_on(name))
        for name in ("deepseek_v4_pro", "deepseek_v4_flash", "deepseek_v3")
    )
    assert pro.moe == tuple(range(61)) and pro.experts == 384
    assert pro.hashed == (0, 1, 2) and pro.table == TABLE
    assert flash.total == 43 and (flash.experts, flash.chosen) == (256, 6)
    assert dense.dense == (0, 1, 2) and dense.moe == tuple(range(3, 61)) and not dense.hashed
    with pytest.raises(UserError) as caught:
        expert_layers(model_on("llama_3_1_8b"))
    assert caught.value.code == "plan.dense"


def test_numbers_of_layers_in_words():
    assert layers_text([4]) == "layer 4"
    assert layers_text([0, 1, 2, 5, 8, 9]) == "layers 0 to 2, 5, 8, 9"


# ---- the text


def test_a_text_and_its_defaults():
    assert parse_loads_text("uniform") == LoadsText("uniform")
    text = " zipf : 0.6 , seed=3,drift=.2, windows=8 ,tokens=1"
    assert parse_loads_text(text) == LoadsText("zipf", 0.6, 3, 8, 0.2, 1.0)


numbers = st.floats(0, EXPONENT_LIMIT).map(lambda value: float(f"{value:.6f}"))


@given(
    st.sampled_from(LAWS[1:]),
    numbers,
    st.integers(0, 2**32 - 1),
    st.integers(1, WINDOW_LIMIT),
    numbers,
    st.none() | numbers,
)
def test_a_text_reads_back(law, value, seed, windows, drift, tokens):
    text = LoadsText(law, value, seed, windows, drift, tokens)
    assert parse_loads_text(str(text)) == text


WRONG = {
    "": ("loads.law", 1),
    "zipff:1": ("loads.law", 1),
    "zipf": ("loads.no_value", 5),
    "zipf:": ("loads.no_value", 5),
    "zipf=1": ("loads.no_value", 5),
    "zipf:x": ("loads.key_value", 6),
    "zipf:-1": ("loads.key_value", 6),
    "zipf:1e3": ("loads.key_value", 6),
    "zipf:9": ("loads.key_value", 6),
    "uniform:1": ("loads.law_value", 8),
    "zipf:1,sed=3": ("loads.key", 8),
    "zipf:1,seed": ("loads.key", 8),
    "zipf:1,seed:3": ("loads.key", 8),
    "zipf:1,,seed=3": ("loads.key", 8),
    "zipf:1,seed=3,seed=3": ("loads.key_twice", 15),
    "zipf:1,seed=-3": ("loads.key_value", 13),
    "zipf:1,windows=0": ("loads.key_value", 16),
    "zipf:1,  drift=": ("loads.key_value", 16),
    "zipf 1": ("loads.no_value", 5),
    "uniform 1": ("loads.law_value", 9),
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_texts_by_example(text):
    code, column = WRONG[text]
    found = error(text)
    assert found.code == code and found.spot is not None and found.spot.column == column


def test_a_wrong_text_is_shown_with_a_caret():
    lines = error("zipf:1,sed=3").render().splitlines()
    assert lines[0].startswith("--loads:1:8: error:") and lines[1:3] == [
        "    1 | zipf:1,sed=3",
        "               ^",
    ]
    assert lines[-1] == "  try: did you mean seed?"


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        parse_loads_text(text)
    except UserError as error:
        assert error.code.startswith("loads.")


def test_files_and_texts_are_told_apart(tmp_path):
    (tmp_path / "zipf.csv").write_text("layer,expert,count\n1,0,5\n")
    assert loads_from(str(tmp_path / "zipf.csv"), MIXED).source.endswith("zipf.csv")
    assert loads_from("zipf:1", MIXED).source.startswith("zipf:1.0,seed=0")
    assert error("none.json").code == "loads.absent" and error("a/b").code == "loads.suffix"


# ---- the laws


def test_uniform_loads_are_the_choices_of_so_many_tokens():
    loads = parametric_loads(parse_loads_text("uniform,windows=2"), MIXED)
    assert loads.layers == (1, 3) and (loads.counts == TOKENS * 2 / 4).all()
    assert loads.counts.shape == (2, 2, 4) and loads.notes == ()


def test_zipf_loads_are_one_law_in_another_order_in_each_layer():
    loads = parametric_loads(parse_loads_text("zipf:0.6,seed=3"), WIDE).counts[0]
    law = np.arange(1, 65) ** -0.6
    expected = law / law.sum() * TOKENS * 6
    np.testing.assert_allclose(np.sort(loads)[:, ::-1], np.stack([expected] * 2))
    assert (loads[0] != loads[1]).any()


def test_log_normal_loads():
    model = replace(WIDE, experts=20_000)
    logs = np.log(parametric_loads(parse_loads_text("lognormal:0.5"), model).counts)
    assert logs.std() == pytest.approx(0.5, rel=0.02)


def test_drift_goes_on_from_window_to_window():
    model = replace(WIDE, experts=20_000)
    text = parse_loads_text("uniform,drift=0.2,windows=3,seed=1")
    logs = np.log(parametric_loads(text, model).counts)
    steps = np.diff(logs, axis=0)
    assert np.ptp(logs[0]) < 1e-9 and steps.std() == pytest.approx(0.2, rel=0.02)
    assert (logs[2] - logs[0]).std() == pytest.approx(0.2 * 2**0.5, rel=0.02)


def test_seeds_and_layers():
    text = parse_loads_text("zipf:0.6,seed=3,drift=0.1,windows=2,tokens=1")
    first, second = (parametric_loads(text, WIDE).counts for _ in range(2))
    np.testing.assert_array_equal(first, second)
    alone = parametric_loads(text, replace(WIDE, moe=(1,), hashed=()))
    np.testing.assert_array_equal(alone.counts[:, 0], first[:, 1])
    other = parametric_loads(replace(text, seed=4), WIDE).counts
    assert (other != first).any(axis=(0, 2)).all()


# ---- layers that choose by token id


def test_layers_by_token_follow_the_frequency_of_ids():
    text = parse_loads_text("uniform,tokens=1,windows=2,drift=0.1")
    table = made_table(0, 0, WIDE)
    assert all(len(set(row)) == 6 for row in table.tolist()) and table.shape == (1000, 6)
    loads = parametric_loads(text, WIDE)
    for window, frequency in enumerate(token_frequency(text, 1000)):
        expected = np.zeros(64)
        for experts, weight in zip(table, frequency, strict=True):
            expected[experts] += weight * TOKENS
        np.testing.assert_allclose(loads.counts[window, 0], expected)
    assert loads.counts[:, 0].sum() == pytest.approx(2 * 6 * TOKENS)
    assert loads.notes == (
        "layer 0: chosen by token id, ids by Zipf's law with exponent 1",
        "layer 0: table of token ids made up, seed 0",
    )


def test_the_table_of_a_checkpoint_is_taken(tmp_path):
    table = np.random.default_rng(0).integers(4, size=(10, 2))
    save_file({"layers.0.ffn.gate.tid2eid": table}, tmp_path / "model.safetensors")
    tables = hash_tables(Checkpoint(tmp_path), SPARSE)
    np.testing.assert_array_equal(tables[0], table)
    loads = loads_from("uniform,tokens=0", SPARSE, tables)
    np.testing.assert_allclose(loads.counts[0, 0], routing_loads(table, 4) * TOKENS / 10)
    assert len(loads.notes) == 1
    save_file({"layers.0.ffn.gate.tid2eid": table + 3}, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as caught:
        hash_tables(Checkpoint(tmp_path), SPARSE)
    assert caught.value.code == "loads.chosen" and "tid2eid" in caught.value.message


def test_without_tokens_all_layers_have_one_law():
    loads = parametric_loads(parse_loads_text("uniform"), SPARSE)
    assert (loads.counts == TOKENS * 2 / 4).all() and "layer 0: chosen by token id" in loads.notes[
        0
    ]


def test_recorded_loads_get_the_layers_that_were_not_recorded():
    recorded = parametric_loads(parse_loads_text("zipf:1,windows=3"), SPARSE)
    text = parse_loads_text("uniform,tokens=1")
    filled = with_hashed(recorded, SPARSE, text)
    np.testing.assert_array_equal(filled.counts[:, 1:], recorded.counts[:, 1:])
    assert filled.counts.shape == (3, 3, 4) and (filled.counts[:, 0] != recorded.counts[:, 0]).any()


def test_exact_loads_of_token_ids():
    table = np.array([[0, 1], [2, 3], [0, 3]])
    assert hash_layer_loads(table, [0, 0, 2], 4).tolist() == [3, 2, 0, 1]
    assert hash_layer_loads(table, [], 4).tolist() == [0, 0, 0, 0]
    for ids in ([3], [-1]):
        with pytest.raises(UserError) as caught:
            hash_layer_loads(table, ids, 4)
        assert caught.value.code == "loads.token_id"


@given(st.integers(1, 4), st.integers(0, 30), st.integers(0, 2**32))
def test_pairs_count_tokens_with_both_experts(choices, tokens, seed):
    random = np.random.default_rng(seed)
    chosen = np.array([random.permutation(5)[:choices] for _ in range(tokens)]).reshape(-1, choices)
    pairs = pairs_of(chosen.astype(np.int64), 5)
    for one in range(5):
        for other in range(5):
            both = sum(one in row and other in row for row in chosen.tolist())
            assert pairs[one, other] == (both if one != other else 0)


def test_routings_choose_experts_of_the_model():
    for wrong in (4, -1):
        with pytest.raises(UserError) as caught:
            pairs_of(np.array([[0, 1], [2, wrong]]), 4)
        assert caught.value.code == "loads.chosen" and "[1, 1]" in caught.value.found
