"""Values of options, by the name of the option: good ones, and good ones with faults in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzzing import inputs
from fuzzing.changes import odd, texts
from fuzzing.readers import READERS

DAMAGED = 0.06
"""How often a file, or a text with a grammar, has faults in it."""
ODD = 0.02
"""How often a value has nothing to do with the option."""
NEVER = ("plain", "empty", "folder", "/dev/null")
MACHINES = ("h100", "h200", "gb200-nvl72", "gb300-nvl72", "ascend-910c", "ascend-950dt", "numpy")
SMALL = (
    "phase=decode batch=2 context=64", "phase=decode ep=4 batch=4 context=64",
    "phase=decode ep=4 tp=2 batch=8 context=128", "phase=prefill ep=2 batch=1 context=64 chunk=16",
    "phase=decode ep=4 batch=4 context=64 slots=20", "phase=decode tp=2 batch=4 context=64",
    "phase=decode ep=8 slots=3/rank batch=16 context=256", "phase=prefill tp=2 batch=1 context=64",
    "phase=decode ep=4 batch=4 context=64 mtp=0.8", "phase=decode ep=16 batch=1 context=16",
)  # fmt: skip
NUMBERS = ("0", "1", "2", "3", "4", "8", "-1", "1.5", "x", "9" * 20, "")
READER_OF = {
    "plan": "plan", "loads": "loads in JSON", "tokens": "tokens in text", "pin": "pins",
    "against": "reference", "target": "machine", "config": "config", "model": "model file",
    "weights": "checkpoint", "file": "IR text", "current": "placement of an engine, JSON",
}  # fmt: skip
"""Option -> the reader whose malformed inputs it may get."""


@dataclass(frozen=True)
class ValuePools:
    """Values for one command, whose files are in a folder."""

    random: Random
    folder: Path
    family: str
    """The model that most values fit."""

    @staticmethod
    def of(random: Random, folder: Path) -> ValuePools:
        (folder / "plain").write_text("text\n")
        (folder / "empty").write_bytes(b"")
        (folder / "folder").mkdir()
        return ValuePools(random, folder, random.choice(inputs.FAMILIES))

    def value(self, name: str) -> str:
        """For the option of that name."""
        if self.random.random() < ODD:
            return self.random.choice(
                [odd.text(self.random), "plain", "empty", "folder", "/dev/null"]
            )
        if name in READER_OF and self.random.random() < DAMAGED:
            return self._damaged(READER_OF[name])
        pool = POOLS.get(name)
        if pool is None:
            return self.random.choice(NUMBERS)
        return pool(self)

    def standard_input(self) -> str:
        """What `opt -` reads."""
        return self.random.choice([*inputs.ir_texts().values(), b""]).decode()

    def _damaged(self, name: str) -> str:
        reader = next(reader for reader in READERS if reader.name == name)
        (self.folder / reader.file).write_bytes(reader.given(self.random))
        return reader.file

    # ---- values

    def text(self, *known: str) -> str:
        """One of these, sometimes with faults in it."""
        chosen = self.random.choice(known)
        if self.random.random() < DAMAGED:
            return texts.changed(chosen, self.random)[:2000]
        return chosen

    def data(self, file: str = "") -> str:
        """Of the family, or rarely of another."""
        family = self.family
        if self.random.random() < ODD:
            family = self.random.choice(inputs.FAMILIES)
        return str(inputs.DATA / family / file).rstrip("/")

    def file(self, name: str, data: bytes) -> str:
        """A file of the folder with this content."""
        (self.folder / name).write_bytes(data)
        return name

    def plan(self) -> str:
        return self.file("plan.json", inputs.plan_files()["plan.json"])

    def current(self) -> str:
        name = self.random.choice([*inputs.plan_files()])
        return self.file(name, inputs.plan_files()[name])

    def loads(self) -> str:
        if self.random.random() < 0.7:
            return self.text(*inputs.LAWS)
        return self.file("loads.json", self.random.choice(inputs.load_json()))

    def ir(self) -> str:
        name = self.random.choice([*inputs.ir_texts()])
        return self.random.choice([self.file("module.mlir", inputs.ir_texts()[name]), "-"])

    def names(self, *known: str) -> str:
        """One of these or several."""
        return ",".join(self.random.sample(known, self.random.choice([1, 1, 1, 2])))

    def passes(self) -> str:
        from supertile.passes.pipeline import pass_names

        chosen = ",".join(self.random.choices(pass_names(), k=self.random.choice([1, 1, 2])))
        return self.random.choice([chosen, self.text(*inputs.PIPELINES)])


ENGINES = ("sglang", "vllm", "vllm-ascend", "trtllm")
PLACES = ("out", "out", "out", "folder", "out/deep/er", "plain/below", "/dev/null", "/dev/full")
SHOWN = ("graph.top_k", "cse", "deepseek_v4", "h200", "llama", "comm.dispatch")
POOLS: dict[str, Callable[[ValuePools], str]] = {
    "model": lambda p: p.text(p.family, str(inputs.ROOT / "models" / f"{p.family}.st")),
    "config": lambda p: p.data(),
    "weights": lambda p: p.data(),
    "tokens": lambda p: p.data("io.npz"),
    "against": lambda p: p.data("io.npz"),
    "pin": lambda p: p.data("io.npz"),
    "target": lambda p: p.text(*MACHINES),
    "deploy": lambda p: p.text(*SMALL),
    "entry": lambda p: p.text("logits", "draft"),
    "stop_after": lambda p: p.random.choice(["graph", "fused", "tiled", "scheduled", p.passes()]),
    "pipeline": lambda p: p.passes(),
    "dump_ir": lambda p: p.random.choice(PLACES),
    "output": lambda p: p.random.choice(PLACES),
    "plan": lambda p: p.plan(),
    "loads": lambda p: p.loads(),
    "engine": lambda p: p.text(*ENGINES),
    "export": lambda p: p.names(*ENGINES),
    "level": lambda p: p.text("graph", "placed", "fused", "tiled", "scheduled"),
    "slots": lambda p: p.text("16", "4,4", "8,8,8,8", "20/rank", "3x4,1x8"),
    "trace": lambda p: p.text("*", "layers.*.mid", "layers.0.*,logits"),
    "redundancy": lambda p: p.text("4", "16", "1MB", "0.5 GB"),
    "sweep": lambda p: p.text("ep=4,8 batch=1,16", "ep=2 batch=4", "batch=1,2,4"),
    "drift": lambda p: p.text("0", "0.2", "1.5"),
    "current": lambda p: p.current(),
    "file": lambda p: p.ir(),
    "show": lambda p: p.text(*SHOWN),
    "what": lambda p: p.text("dispatch", "combine", "step_ms", "linear_1", "tokens_per_second"),
}
