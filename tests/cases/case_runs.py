"""The cases of `tests/data`, and models that run them."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from model_files import model_for
from safetensors.numpy import save_file
from xdsl.dialects.builtin import ModuleOp

import supertile.models
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import Config, read_config
from supertile.runtime.checkpoint import Checkpoint
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.generate import Generated, Generator, Request
from supertile.runtime.plan import ModulePlan, plan_module
from supertile.runtime.trace import Recorder, leading_sizes
from supertile.runtime.weights import Weights

Array = npt.NDArray[Any]
Rows = list[Array]

DATA = Path(__file__).parents[1] / "data"
MODELS = Path(next(iter(supertile.models.__path__)))
TOLERANCE = 1e-4
"""Of logits with a standard deviation of 2, in float32: three times the largest difference seen."""

# How a batch can be fed; each way must give the logits of one pass.
FEEDS = {
    "one shot": Request(),
    "token by token": Request(chunk=1),
    "chunks of 3": Request(chunk=3),
    "chunks of 7": Request(chunk=7),
    "chunks of 21": Request(chunk=21),
    "a prompt, then single tokens": Request(prompt=5, chunk=3, teacher=True),
}


@dataclass(frozen=True)
class Model:
    """A compiled model with its weights; every run has state of its own."""

    module: ModuleOp
    plan: ModulePlan
    weights: Weights

    def run(
        self, rows: Rows, request: Request | None = None, recorder: Recorder | None = None
    ) -> Generated:
        request = request or Request()
        executor = Executor(self.plan, self.weights.get, recorder.watch if recorder else None)
        size = len(rows), max(map(len, rows)) + request.decode
        draft = Session(executor, "draft", *size) if "draft" in self.plan.entries else None
        return Generator(Session(executor, "logits", *size), draft, recorder).run(rows, request)

    def record(
        self, rows: Rows, pins: dict[str, Array] | None = None, chunk: int | None = None
    ) -> dict[str, Array]:
        """Every named value of a run of the first row, without the axis of the batch."""
        recorder = Recorder(("*",), pins or {}, leading_sizes(self.module))
        self.run(rows[:1], Request(chunk=chunk), recorder)
        return {name: held[0] for name, held in recorder.arrays().items() if held.ndim}


def build(config: Config, numerics: str = "reference") -> ModuleOp:
    return build_model(model_for(config), config, numerics)


def with_weights(module: ModuleOp, checkpoint: Path) -> Model:
    plan = plan_module(module)
    return Model(module, plan, Weights(Checkpoint(checkpoint), plan, list(plan.entries)))


@cache
def shared_model(case: str, numerics: str = "reference") -> Model:
    config = read_config(DATA / case / "config.json")
    return with_weights(build(config, numerics), DATA / case)


@cache
def arrays(case: str, file: str) -> dict[str, Array]:
    with np.load(DATA / case / file) as held:
        return dict(held)


def rows_of(case: str) -> Rows:
    return list(arrays(case, "io.npz")["input_ids"])


@dataclass(frozen=True)
class OracleCase:
    """A case that `oracle_cases.py` made."""

    model: Model
    rows: Rows
    logits: Array


def oracle_case(name: str, folder: Path) -> OracleCase:
    """Unpacks a case into a folder and loads it from there."""
    with np.load(DATA / "oracle" / f"{name}.npz") as held:
        (folder / "config.json").write_text(str(held["config"]))
        save_file(_tensors(str(held["shapes"]), held["numbers"]), folder / "model.safetensors")
        rows, logits = list(held["ids"]), held["logits"]
    return OracleCase(
        with_weights(build(read_config(folder / "config.json")), folder), rows, logits
    )


def _tensors(shapes: str, numbers: Array) -> dict[str, Array]:
    tensors, at = {}, 0
    for name, shape in json.loads(shapes).items():
        size = int(np.prod(shape))
        kind = np.int64 if name.endswith("tid2eid") else np.float32
        tensors[name] = numbers[at : at + size].astype(kind).reshape(shape)
        at += size
    return tensors


def apart(found: Array, expected: Array) -> float:
    """The largest difference; NaN on either side counts unless it is on both."""
    assert found.shape == expected.shape
    assert (np.isnan(found) == np.isnan(expected)).all()
    return float(np.nanmax(np.abs(found - expected), initial=0))
