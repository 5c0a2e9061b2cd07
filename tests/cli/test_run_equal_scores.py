"""Of equal scores the smaller index is chosen: at every level, in any feeding, on any ranks.

Where a run took another of two equal scores, its logits would be far from those of the first run.
"""

import shlex
from pathlib import Path

import numpy as np
import pytest
from command_files import DATA
from safetensors.numpy import load_file, save_file

from supertile.cli.main import main
from supertile.ir import graph
from supertile.runtime import graph_ops

TOLERANCE = 1e-4
TOKENS = 48
# Ways to run that compute the same.
WAYS = (
    *("--level fused", "--chunk 5", "--prompt 40 --teacher", "--ep 2", "--ep 4 --tp 2"),
    *("--level tiled --tiles test --chunk 16", "--level scheduled --chunk 16"),
    "--level scheduled --ep 2",
)


def logits_of(model: str, checkpoint: Path, options: str, folder: Path) -> dict[str, np.ndarray]:
    """What a run of the first tokens of the case writes."""
    case = next(name for name in ("deepseek_v4_ties", "deepseek_v3") if name.startswith(model))
    io = np.load(DATA / case / ("reference.npz" if model == "deepseek_v4" else "io.npz"))
    np.save(folder / "ids.npy", io["input_ids"][:, :TOKENS])
    line = f"run {model} --config {DATA / case} --weights {checkpoint} --tokens {folder}/ids.npy"
    assert main(shlex.split(f"{line} {options} -o {folder}/out.npz")) == 0
    with np.load(folder / "out.npz") as written:
        return dict(written)


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """Checkpoints by model, whose routers and indexers give everything the same score."""
    folders = {}
    for model, case in (("deepseek_v4", "deepseek_v4_ties"), ("deepseek_v3", "deepseek_v3")):
        folders[model] = tmp_path_factory.mktemp(model)
        tensors = load_file(DATA / case / "model.safetensors")
        for name, tensor in tensors.items():
            is_router = ".gate." in name and tensor.dtype == np.float32  # integers are a table
            if is_router or name.endswith("indexer.wq_b.weight"):
                tensors[name] = np.zeros_like(tensor)
        save_file(tensors, folders[model] / "model.safetensors")
    return folders


@pytest.fixture(scope="module")
def first(blind, tmp_path_factory):
    """What the graph level gives, in one call: by model, and of blocks with scores of their own."""
    folder = tmp_path_factory.mktemp("first")
    case = DATA / "deepseek_v4_ties"
    options = "--trace '*.chosen,*.far.index'"
    return {
        "ties": logits_of("deepseek_v4", case, options, folder),
        "deepseek_v4": logits_of("deepseek_v4", blind["deepseek_v4"], options, folder),
        "deepseek_v3": logits_of("deepseek_v3", blind["deepseek_v3"], "--trace *.chosen", folder),
    }


def test_of_all_experts_the_first_are_chosen(first):
    for model in ("deepseek_v4", "deepseek_v3"):
        routes = {name: chosen for name, chosen in first[model].items() if name.endswith(".chosen")}
        scored = [name for name in routes if model == "deepseek_v3" or name[7] in "23"]
        assert scored
        for name in scored:
            count = routes[name].shape[-1]
            assert (np.sort(routes[name]) == np.arange(count)).all(), name


def test_of_all_blocks_the_first_are_chosen(first):
    visible = (np.arange(TOKENS) + 1) // 4
    wanted = np.where(np.arange(8) < visible[:, None], np.arange(8), -1)
    for name in ("layers.1.attn.far.index", "layers.3.attn.far.index"):
        assert (first["deepseek_v4"][name] == wanted).all()


@pytest.mark.parametrize("options", WAYS)
def test_natural_ties_of_blocks_fall_alike(first, options, tmp_path):
    written = logits_of("deepseek_v4", DATA / "deepseek_v4_ties", options, tmp_path)
    assert np.abs(written["logits"] - first["ties"]["logits"]).max() < TOLERANCE


@pytest.mark.parametrize("options", ("--chunk 5", "--ep 4 --tp 2", "--level tiled"))
@pytest.mark.parametrize("model", ["deepseek_v4", "deepseek_v3"])
def test_experts_and_groups_of_one_score_fall_alike(blind, first, model, options, tmp_path):
    written = logits_of(model, blind[model], options, tmp_path)
    assert np.abs(written["logits"] - first[model]["logits"]).max() < TOLERANCE


def test_another_rule_would_be_found_out(first, monkeypatch, tmp_path):
    def last_of_equal(scores, count, k):
        size = scores.shape[-1]
        there = size if count is None else count[:, None]
        shown = np.where(np.arange(size) < there, scores, -np.inf)
        order = size - 1 - np.argsort(-shown[:, ::-1], axis=-1, kind="stable")[:, :k]
        return np.where(order < there, order, -1).astype(np.int32)

    monkeypatch.setitem(graph_ops.FUNCTIONS, graph.TopK, last_of_equal)
    written = logits_of("deepseek_v4", DATA / "deepseek_v4_ties", "", tmp_path)
    assert np.abs(written["logits"] - first["ties"]["logits"]).max() > 1
