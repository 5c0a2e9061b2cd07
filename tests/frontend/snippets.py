"""A small model into which tests put one to three lines, and what happens then."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp

from supertile.frontend.build import build_program
from supertile.frontend.hf_config import Config, normalize, read_config
from supertile.frontend.parse import parse_model
from supertile.frontend.program import program_of
from supertile.frontend.settle import settle
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.plan import WeightUse, plan_module

Array = NDArray[Any]
DATA = Path(__file__).parents[1] / "data"

KEYS = {
    "model_type": "llama",
    "hidden_size": 8,
    "vocab_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "head_dim": 4,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "rope_theta": 100.0,
    "tie_word_embeddings": False,
}

# A line of one word in capitals is where the snippet of that place goes.
BASE = """\
model Base for "llama"

config
  D = hidden_size: int
  V = vocab_size: int
  H = num_attention_heads: int
  C = head_dim: int
  eps = rms_norm_eps: float
  turn = rope_theta: rope[C, halves]
  CONFIG

table layer
  rope: rope { turn }
  TABLE

format row8 = scaled(f8e4m3, f8e8m0, [1, 4])
ITEM

block norm(x, width: int) -> y
  weight gain: bf16[width] "weight"
  return rms_norm(x, gain, eps)

block decoder(x: [T, D]) -> out
  part norm: norm(D) "norm."
  weight w: bf16[H * C, D] "w"
  weight v: bf16[D, H * C] "v"
  z = linear(norm(x), w)
  heads = reshape(z, [T, H, C])
  BODY
  return linear(z, v)

entry logits(ids: i64[T]) -> logits
  weight embed: bf16[V, D] "embed"
  part layers: decoder[layers] "layers.{l}."
  x = gather(embed, ids)
  ENTRY
  for l in layers
    x = layers[l](x)
  return linear(x, embed)
"""
PLACES = ("CONFIG", "TABLE", "ITEM", "BODY", "ENTRY")


def config(**changes: Any) -> Config:
    keys = {**KEYS, **changes}
    return normalize(keys, "config.json", json.dumps(keys, indent=1))


def build_v4(text: str) -> ModuleOp:
    """A base that reads few keys of a V4, of which none is held against it."""
    program = program_of(parse_model(text, "model.st"))
    own = read_config(DATA / "deepseek_v4_deployed" / "config.json")
    read = settle(program, own)
    return build_program(program, replace(read, config=replace(own, data={})))


def put(base: str = BASE, **snippets: str) -> str:
    """The base with a snippet at each place named; the lines of places left over are empty."""
    lines = []
    for line in base.splitlines():
        place = line.strip()
        if place in PLACES:
            indent = line[: len(line) - len(place)]
            held = snippets.get(place.lower(), "").splitlines() or [""]
            lines += [indent + part if part else "" for part in held]
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def build(text: str, settings: Config | None = None, numerics: str = "reference") -> ModuleOp:
    program = program_of(parse_model(text, "model.st"))
    return build_program(program, settings or config(), numerics)


@dataclass(frozen=True)
class Case:
    """What is put into the base, and the error that it gives."""

    message: str
    snippets: dict[str, str]
    elsewhere: bool = False


def case(message: str, elsewhere: bool = False, **snippets: str) -> Case:
    return Case(message, snippets, elsewhere)


# ---- running -----------------------------------------------------------------------------------

# A model of one entry: the snippet computes y from x [T, H * C], rows of a table of the test.
TINY = """\
model Tiny for "llama"
config
  H = num_attention_heads: int
  C = head_dim: int
  main = rope_theta: rope[C, halves]
format row8 = scaled(f8e4m3, f8e8m0, [1, 4])
ITEM
block turned(x: [T, H, C]) -> y
  return rope(x, position, main)
entry logits(ids: i64[T]) -> y
  weight rows: f32[16, H * C] "rows"
  x = gather(rows, ids)
  ENTRY
  return y
"""


def run(
    snippet: str, weights: dict[str, Array], calls: list[list[int]], item: str = ""
) -> list[Array]:
    """`y` of each call of one sequence with the given ids; x is the table's row of each token."""
    module = build(put(TINY, entry=snippet, item=item))
    module.verify()

    def weight(use: WeightUse, layer: int | None) -> Any:
        held = weights[use.pattern]
        return list(held) if "{e}" in use.pattern else held

    executor = Executor(plan_module(module), weight)
    session = Session(executor, "logits", batch=1, context=32)
    return [session.call({"ids": np.array(ids)}, [len(ids)])["y"] for ids in calls]
