"""Whole models at the tiled level, block by block, give the logits of the graph level.

With tiles for a machine, and with tiles smaller than every size, so that all loops turn and all
edges are met. Sums have another order, so logits agree as closely as with another implementation,
and selections are equal where no tie decides. In deployed numerics a last bit becomes another code
and that another selection: modules are compared with their inputs pinned, as in `test_deployed.py`.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from case_runs import (
    DATA,
    TOLERANCE,
    Array,
    Model,
    Rows,
    apart,
    arrays,
    oracle_case,
    rows_of,
    shared_model,
    with_weights,
)
from test_deployed import (
    ATTENTION_LIMIT,
    CASE as DEPLOYED,
    DRAFT_LIMIT,
    EXPERTS_LIMIT,
    INPUTS,
    SELECTIONS,
    pins,
    worst,
)
from test_oracle_cases import NAMES
from test_placed import five_rows, on_one_rank, placed, run as run_placed
from xdsl.dialects.builtin import ModuleOp

from supertile.ir.text import context
from supertile.passes.choose_tiles import ChooseTiles
from supertile.passes.lower_to_tile import LowerToTile
from supertile.passes.pipeline import PIPELINE, parse_pipeline
from supertile.runtime.generate import Request

FUSIONS = ",".join(name for phase, name in PIPELINE if phase == "fused")
TILES = {"machine": ChooseTiles(), "test": ChooseTiles(force="test")}
CASES = ("deepseek_v4", "deepseek_v3", "llama", DEPLOYED)
FEEDS = {
    "one shot": Request(),
    "chunks of 7": Request(chunk=7),
    "a prompt, then single tokens": Request(prompt=5, chunk=3, teacher=True),
    "decoding": Request(prompt=9, decode=3),
}
SHORT = 11
"""Tokens of each row where tiles are small: windows, selections, some hundred blocks."""


def lowered(module: ModuleOp, tiles: str, fusions: str = FUSIONS) -> ModuleOp:
    """The module with kernels in place of its ops."""
    made = module.clone()
    for one in (*parse_pipeline(fusions), TILES[tiles], LowerToTile()):
        one.apply(context(), made)
    return made


@cache
def tiled(case: str, tiles: str, numerics: str = "reference", fusions: str = FUSIONS) -> Model:
    module = shared_model(case, numerics).module
    return with_weights(lowered(module, tiles, fusions), DATA / case)


def short(case: str, count: int = 2) -> Rows:
    """Rows of unequal length."""
    return [row[: SHORT + 5 * n] for n, row in enumerate(rows_of(case)[:count])]


def routes(model: Model, rows: Rows) -> dict[str, Array]:
    """The experts of each token, in order of their numbers, by the name of the selection."""
    held = model.record(rows)
    return {name: np.sort(v) for name, v in held.items() if name.endswith("router.chosen")}


def same(found: Model, expected: Model, rows: Rows, feed: Request) -> None:
    """Logits, drafts and greedy tokens are equal; logits up to the order of sums."""
    ours, theirs = found.run(rows, feed), expected.run(rows, feed)
    assert apart(ours.logits, theirs.logits) < TOLERANCE
    assert (ours.tokens == theirs.tokens).all()
    if theirs.draft is not None:
        assert ours.draft is not None
        assert apart(ours.draft, theirs.draft) < TOLERANCE


# ---- reference numerics --------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_tiles_of_a_machine(case: str) -> None:
    same(tiled(case, "machine"), shared_model(case), rows_of(case), FEEDS["one shot"])


@pytest.mark.parametrize("case", CASES)
def test_small_tiles(case: str) -> None:
    same(tiled(case, "test"), shared_model(case), short(case), FEEDS["one shot"])


@pytest.mark.parametrize(
    ("feed", "tiles"),
    [
        ("chunks of 7", "machine"),
        ("chunks of 7", "test"),
        ("a prompt, then single tokens", "machine"),
        ("decoding", "test"),
    ],
)
def test_every_way_of_feeding(feed: str, tiles: str) -> None:
    same(tiled(DEPLOYED, tiles), shared_model(DEPLOYED), short(DEPLOYED), FEEDS[feed])


@pytest.mark.parametrize("case", ["deepseek_v4", "deepseek_v3"])
def test_without_fusion(case: str) -> None:
    same(tiled(case, "test", fusions=""), shared_model(case), short(case), FEEDS["one shot"])


@pytest.mark.parametrize("case", ["deepseek_v4", "deepseek_v3"])
def test_tokens_go_to_the_same_experts(case: str) -> None:
    found, expected = (
        routes(tiled(case, "machine"), short(case)),
        routes(shared_model(case), short(case)),
    )
    assert expected
    assert found.keys() == expected.keys()
    for name, chosen in expected.items():
        assert (found[name] == chosen).all(), name


@pytest.mark.parametrize("name", NAMES)
def test_models_of_other_sizes(name: str, tmp_path: Path) -> None:
    case = oracle_case(name, tmp_path)
    lengths = {"machine": (37, 9), "test": (8,)}
    for tiles, parts in lengths.items():
        rows = [row[:part] for row, part in zip(case.rows, parts, strict=False)]
        model = with_weights(lowered(case.model.module, tiles), tmp_path)
        same(model, case.model, rows, FEEDS["one shot"])


@pytest.mark.parametrize("tiles", TILES)
def test_two_ranks(tiles: str) -> None:
    module = placed("deepseek_v4", "ranks=2", fused=True).module
    model = with_weights(lowered(module, tiles, fusions=""), DATA / "deepseek_v4")
    found = run_placed(model, five_rows("deepseek_v4"))
    assert apart(found.logits, on_one_rank("deepseek_v4").logits) < TOLERANCE


# ---- deployed numerics ---------------------------------------------------------------------------


@pytest.mark.parametrize("tiles", TILES)
def test_deployed_modules(tiles: str) -> None:
    """With inputs and selections pinned, attention is within half of what the graph level may be.

    Each op is a kernel, so that there is a value for every pin; the fusions are those above.
    """
    model = tiled(DEPLOYED, tiles, "deployed", fusions="")
    values = model.record(rows_of(DEPLOYED), pins(INPUTS, SELECTIONS))
    assert worst(values, "attn_out") < ATTENTION_LIMIT / 2
    assert worst(values, "ffn_out") < EXPERTS_LIMIT


def test_a_free_run_stays_near_on_average() -> None:
    """As near to the release as the graph level is in other chunks, and no nearer."""
    found = tiled(DEPLOYED, "machine", "deployed").run(rows_of(DEPLOYED))
    io = arrays(DEPLOYED, "io.npz")
    assert found.draft is not None
    assert np.abs(found.logits - io["logits_deployed"]).mean() < 0.1
    assert np.abs(found.draft - io["mtp_logits_deployed"]).mean() < DRAFT_LIMIT
