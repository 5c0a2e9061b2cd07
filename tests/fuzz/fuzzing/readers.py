"""Every reader of Supertile, with good inputs of its kind and a way to have it read a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

from fuzzing import inputs, reads
from fuzzing.changes.arrays import Arrays
from fuzzing.materials import (
    ArrayInput,
    JsonInput,
    Material,
    SafetensorsInput,
    TextInput,
    encoded,
    json_lists,
    npy,
    npz,
)

Read = Callable[[Path, Random], object]


@dataclass(frozen=True)
class Reader:
    """One reader, and what it is given."""

    name: str
    file: str
    """What the input is called in its folder."""
    materials: Callable[[], Sequence[Material]]
    read: Read
    weight: int = 10
    """How often it is drawn, beside the others."""
    beside: Callable[[], dict[str, bytes]] = field(default=dict)
    """Other files of the folder, by name."""

    def given(self, random: Random) -> bytes:
        """An input drawn for it."""
        return random.choice(_materials(self)).drawn(random)


@cache
def _materials(reader: Reader) -> Sequence[Material]:
    return reader.materials()


def as_json(found: Sequence[bytes]) -> list[Material]:
    return [JsonInput(data) for data in found]


def as_text(found: Sequence[bytes]) -> list[Material]:
    return [TextInput(data) for data in found]


def lines(found: Sequence[str]) -> list[Material]:
    return as_text([encoded(text) for text in found])


# ---- inputs -------------------------------------------------------------------------------------


def _imported() -> dict[str, bytes]:
    """A model file that has all of another, which is the one that is changed."""
    return {"main.st": b'import "part.st"\n' + _llama_parts()[0]}


@cache
def _llama_parts() -> tuple[bytes, bytes]:
    """The model file of Llama: its first line and its entry, and all else."""
    text = (inputs.ROOT / "models" / "llama.st").read_bytes()
    first = text.index(b"model Llama")
    line, entry = text.index(b"\n", first) + 1, text.index(b"entry logits")
    return text[first:line] + text[entry:], text[:first] + text[line:entry]


def _plans(suffix: str) -> list[bytes]:
    return [data for name, data in inputs.plan_files().items() if name.endswith(suffix)]


def _only_logits() -> Arrays:
    return {"logits": inputs.pins()["logits"]}


INDEX, SHARD = "model.safetensors.index.json", "shard.safetensors"


def _index() -> bytes:
    return inputs.checkpoint_index(SHARD)


def _behind_index(path: Path, random: Random) -> object:
    return reads.checkpoint(path.with_name(INDEX), random)


# ---- the table -----------------------------------------------------------------------------------

READERS: tuple[Reader, ...] = (
    Reader("config", "config.json", lambda: as_json(inputs.configs()), reads.config, 20),
    Reader(
        "config and model",
        "config.json",
        lambda: as_json(inputs.configs()),
        reads.config_and_model,
        3,
    ),
    Reader("model file", "model.st", lambda: as_text(inputs.models()), reads.model, 5),
    Reader(
        "imported file",
        "part.st",
        lambda: as_text([_llama_parts()[1]]),
        reads.with_import,
        3,
        _imported,
    ),
    Reader("IR text", "module.mlir", lambda: as_text([*inputs.ir_texts().values()]), reads.ir, 3),
    Reader("pipeline", "pipeline.txt", lambda: lines(inputs.PIPELINES), reads.pipeline),
    Reader(
        "options of passes", "pipeline.txt", lambda: lines(inputs.PIPELINES), reads.pipeline_run, 3
    ),
    Reader(
        "machine",
        "machine.toml",
        lambda: as_text(inputs.texts("targets/machines", "*.toml")),
        reads.machine,
        20,
    ),
    Reader(
        "engine",
        "engine.toml",
        lambda: as_text(inputs.texts("targets/engines", "*.toml")),
        reads.engine,
    ),
    Reader("deployment", "deployment.txt", lambda: lines(inputs.DEPLOYMENTS), reads.deployment, 20),
    Reader("law of loads", "loads.txt", lambda: lines(inputs.LAWS), reads.law),
    Reader(
        "loads in JSON",
        "loads.json",
        lambda: [*as_json(inputs.load_json()), ArrayInput(inputs.counts(), json_lists)],
        reads.loads,
        20,
    ),
    Reader("loads in CSV", "loads.csv", lambda: as_text(inputs.load_csv()), reads.loads, 15),
    Reader(
        "loads in npz", "loads.npz", lambda: [ArrayInput(inputs.counts(), npz)], reads.loads, 15
    ),
    Reader("loads in npy", "loads.npy", lambda: [ArrayInput(inputs.counts(), npy)], reads.loads, 5),
    Reader(
        "loads in pt",
        "loads.pt",
        lambda: [ArrayInput(inputs.counts(), inputs.torch_bytes)],
        reads.loads,
        15,
    ),
    Reader(
        "loads in safetensors",
        "loads.safetensors",
        lambda: [SafetensorsInput(inputs.stored_counts())],
        reads.loads,
        5,
    ),
    Reader(
        "plan", "plan.json", lambda: as_json([inputs.plan_files()["plan.json"]]), reads.plan, 20
    ),
    Reader(
        "placement of an engine, JSON", "map.json", lambda: as_json(_plans(".json")), reads.current
    ),
    Reader(
        "placement of an engine, YAML", "map.yaml", lambda: as_text(_plans(".yaml")), reads.current
    ),
    Reader(
        "placement of an engine, Python", "map.py", lambda: as_text(_plans(".py")), reads.current
    ),
    Reader(
        "checkpoint",
        "model.safetensors",
        lambda: [SafetensorsInput(inputs.checkpoint())],
        reads.checkpoint,
        15,
    ),
    Reader(
        "index of a checkpoint",
        INDEX,
        lambda: as_json([_index()]),
        reads.checkpoint,
        5,
        lambda: {SHARD: inputs.checkpoint()},
    ),
    Reader(
        "shard of a checkpoint",
        SHARD,
        lambda: [SafetensorsInput(inputs.checkpoint())],
        _behind_index,
        5,
        lambda: {INDEX: _index()},
    ),
    Reader("tokens in npz", "tokens.npz", lambda: [ArrayInput(inputs.tokens(), npz)], reads.tokens),
    Reader("tokens in npy", "tokens.npy", lambda: [ArrayInput(inputs.tokens(), npy)], reads.tokens),
    Reader("tokens in text", "tokens.txt", lambda: as_text([inputs.token_text()]), reads.tokens),
    Reader("pins", "pins.npz", lambda: [ArrayInput(inputs.pins(), npz)], reads.pins),
    Reader(
        "reference", "reference.npz", lambda: [ArrayInput(_only_logits(), npz)], reads.reference
    ),
    Reader("kept answer", "answer.json", lambda: as_json(inputs.answers()), reads.answer, 5),
)
