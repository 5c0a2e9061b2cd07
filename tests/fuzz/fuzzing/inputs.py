"""Where good inputs come from: what is shipped, the data of tests, and what the commands write."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fuzzing.changes.arrays import Arrays
from fuzzing.materials import encoded

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "tests" / "data"
FAMILIES = ("llama", "qwen3_moe", "deepseek_v3", "deepseek_v4")
EXPERT_FAMILY = "qwen3_moe"
"""The smallest model with experts."""
RANKS = 4
DEPLOYMENTS = (
    "phase=decode ep=4 batch=4 context=64 slots=20",
    "phase=decode ep=8 tp=2 batch=16 context=256 slots=3/rank",
    "phase=prefill ep=4 tp=2 batch=1 context=64 chunk=16",
    "phase=decode ep=4 batch=4",
    "phase=decode ep=8 tp=2 batch=16 context=4K slots=264",
    "phase=prefill ep=4 tp=4 batch=1 context=8K chunk=2048",
    "phase=decode ep=4 slots=3x40,1x20 batch=8 context=1M cache=fp8",
    "phase=decode tp=8 dp=2 batch=64 mtp=0.8",
    "phase=decode, ep=384, batch=96, context=4096, slots=2/rank",
)
LAWS = (
    "uniform", "uniform,tokens=1e6", "zipf:0.6", "zipf:1.2,seed=3,windows=4,drift=0.2",
    "lognormal:0.5,seed=2,tokens=1000",
)  # fmt: skip
PIPELINES = (
    "canonicalize,cse",
    "specialize{tokens=1 batch=8},cse,canonicalize",
    "fuse-norm,fuse-residual,fuse-attention,fuse-moe",
    "choose-tiles{tokens=64 batch=1 context=256},lower-to-tile,pipeline-loops,assign-memory",
    "build-schedule{tokens=16 batch=1 context=64 memory=runtime}",
    "shard-attention{tp=2},plan-experts{ranks=2 slots=4,4}",
)


def texts(folder: str, pattern: str) -> list[bytes]:
    """The contents of the files of a folder of the project."""
    return [path.read_bytes() for path in sorted((ROOT / folder).glob(pattern))]


def configs() -> list[bytes]:
    """Those that are shipped, and those of tests."""
    return texts("models/configs", "*.json") + texts("tests/data", "*/config.json")


def models() -> list[bytes]:
    """The model files, and one of each that imports the rest of itself."""
    return texts("models", "*.st")


def run(*arguments: str) -> int:
    """A command, silently."""
    from supertile.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return main(arguments)


@cache
def plan_files() -> dict[str, bytes]:
    """A small plan, and what engines load of it, by name."""
    family = DATA / EXPERT_FAMILY
    with TemporaryDirectory() as folder:
        deployment = f"phase=decode ep={RANKS} batch=4 context=64 slots=20"
        code = run(
            *("plan", EXPERT_FAMILY, "--config", str(family), "--target", "h200"),
            *("--deploy", deployment, "--loads", "zipf:0.6"),
            *("--export", "sglang,vllm,vllm-ascend,trtllm", "-o", folder),
        )
        assert code == 0, "the plan fails"
        files = [path for path in Path(folder).rglob("*") if path.suffix in SUFFIXES_OF_PLANS]
        return {path.name: path.read_bytes() for path in sorted(files)}


SUFFIXES_OF_PLANS = (".json", ".yaml", ".yml", ".py")


@cache
def ir_texts() -> dict[str, bytes]:
    """IR of small models at each level, by level."""
    from supertile.cli.compile import select_passes
    from supertile.frontend.build import build_model
    from supertile.frontend.hf_config import read_config
    from supertile.ir.text import print_module
    from supertile.passes.driver import run_passes

    found: dict[str, bytes] = {}
    for family, levels in (
        ("llama", ("graph", "fused", "tiled", "scheduled")),
        (EXPERT_FAMILY, ("graph", "placed", "fused")),
    ):
        config = read_config(DATA / family / "config.json")
        for level in levels:
            module = build_model(ROOT / "models" / f"{family}.st", config, "reference")
            run_passes(module, select_passes(None, level))
            found[f"{family} {level}"] = print_module(module, len(found) % 2 == 0).encode()
    return found


# ---- loads, tokens, weights ----------------------------------------------------------------------


@cache
def expert_model() -> Any:
    """The small model with experts, as plans and loads see it."""
    from supertile.frontend.build import build_model
    from supertile.frontend.hf_config import read_config
    from supertile.ir.expert_layer import expert_layer
    from supertile.targets.deploy import Model
    from supertile.targets.plan.model import expert_layers

    config = read_config(DATA / EXPERT_FAMILY / "config.json")
    module = build_model(ROOT / "models" / f"{EXPERT_FAMILY}.st", config, "reference")
    deployed = Model.of(config, expert_layer(module))
    return deployed, expert_layers(deployed)


@cache
def counts() -> Arrays:
    """Loads of its experts, in two windows, with the pairs of experts."""
    _, layers = expert_model()
    random = np.random.default_rng(0)
    shape = (2, len(layers.moe), layers.experts)
    pairs = random.integers(0, 9, (len(layers.moe), layers.experts, layers.experts))
    return {
        "logical_count": random.integers(0, 1000, shape),
        "pairs": pairs + pairs.transpose(0, 2, 1),
        "layers": np.array(layers.moe),
    }


@cache
def stored_counts() -> bytes:
    """The same in safetensors."""
    from safetensors.numpy import save

    data: bytes = save({name: np.asarray(held, np.int64) for name, held in counts().items()})
    return data


def load_json() -> list[bytes]:
    """Loads as JSON, in several forms."""
    held = counts()
    rows = held["logical_count"].tolist()
    numbers = held["layers"].tolist()
    records = [{"layer": layer, "counts": rows[0][n]} for n, layer in enumerate(numbers)]
    shipped = [DATA / "hot_experts.json", DATA / "cold_experts.json"]
    return [
        json.dumps(rows).encode(),
        json.dumps({"logical_count": rows[0], "rank": 0}).encode(),
        json.dumps({"counts": rows, "layers": numbers}).encode(),
        json.dumps({"records": records}).encode(),
        json.dumps({str(layer): rows[0][n] for n, layer in enumerate(numbers)}).encode(),
        *(path.read_bytes() for path in shipped if path.exists()),
    ]


def load_csv() -> list[bytes]:
    """Loads as tables."""
    held = counts()
    rows = held["logical_count"][0]
    long = ["layer,expert,count"] + [
        f"{layer},{expert},{count}"
        for layer, row in zip(held["layers"].tolist(), rows.tolist(), strict=True)
        for expert, count in enumerate(row)
    ]
    wide = [",".join(map(str, row)) for row in rows.tolist()]
    return [
        "\n".join(long).encode(),
        "\n".join(wide).encode(),
        (DATA / "expert_layers.csv").read_bytes(),
    ]


def torch_bytes(held: Arrays, random: Random) -> bytes:
    """As torch.save writes them, made without torch by the helper of the tests of such files."""
    folder = str(ROOT / "tests")
    if folder not in sys.path:
        sys.path.append(folder)
    writer = importlib.import_module("torch_bytes")
    known = {name: array for name, array in held.items() if array.dtype.str in writer.CLASSES}
    with TemporaryDirectory() as place:
        path = Path(place) / "f.pt"
        order = random.choice(["little", "little", "little", "big"])
        writer.write_torch(path, known or {"logical_count": np.ones((1, 2))}, order)
        return path.read_bytes()


def tokens() -> Arrays:
    """Three rows of token ids."""
    ids = np.random.default_rng(0).integers(0, 64, (3, 9))
    return {"input_ids": ids, "lengths": np.array([9, 4, 1])}


def token_text() -> bytes:
    """Rows of token ids, separated in both ways."""
    return encoded("1 2 3 4 5 6\n\n7, 8, 9\n0\n")


@cache
def checkpoint() -> bytes:
    """A few weights of a small model: all dtypes that NumPy can write."""
    from safetensors.numpy import load_file, save

    held = load_file(DATA / "llama" / "model.safetensors")
    small = {name: array for name, array in held.items() if array.nbytes <= 4096}
    small["codes"] = np.arange(64, dtype=np.uint8).reshape(4, 16)
    small["numbers"] = np.arange(8, dtype=np.int64)
    data: bytes = save(dict(sorted(small.items())[:12]))
    return data


def stored_tensors() -> dict[str, Any]:
    """The entries of its header, by name."""
    length = int.from_bytes(checkpoint()[:8], "little")
    header: dict[str, Any] = json.loads(checkpoint()[8 : 8 + length])
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def checkpoint_index(shard: str) -> bytes:
    """An index that finds every weight in one shard."""
    return json.dumps({"weight_map": dict.fromkeys(stored_tensors(), shard)}).encode()


def pins() -> Arrays:
    """Arrays by the names of values."""
    return {
        "logits": np.ones((2, 3, 8), np.float32),
        "layers.0.router.chosen": np.arange(12).reshape(2, 3, 2),
        "layers.1.router.chosen.scores": np.linspace(0, 1, 48).reshape(2, 3, 8),
    }


@cache
def answers() -> list[bytes]:
    """Answers that were kept, without their digests."""
    with TemporaryDirectory() as folder:
        before = os.environ.get("XDG_CACHE_HOME")
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            code = run(
                *("compile", "llama", "--config", str(DATA / "llama"), "--target", "h200"),
                *("--deploy", "phase=decode batch=2 context=64", "-o", f"{folder}/out"),
            )
            kept = sorted(Path(folder).rglob("answers/*.json"))
            return [path.read_bytes().partition(b"\n")[2] for path in kept] if code == 0 else []
        finally:
            if before is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = before


def prepare() -> None:
    """Make what takes time once, before there are worker processes."""
    for make in (plan_files, ir_texts, expert_model, counts, stored_counts, checkpoint, answers):
        make()
    torch_bytes(counts(), Random(0))
