"""A model of a few lines, and IR by hand, for tests of what runs them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp

from supertile.frontend.build import build_model
from supertile.frontend.hf_config import normalize
from supertile.ir.text import HEADER, parse_module
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.generate import Generated, Generator, Request
from supertile.runtime.plan import ModulePlan, WeightUse, plan_module
from supertile.runtime.trace import Recorder

Array = npt.NDArray[Any]

CONFIG = {
    "model_type": "llama",
    "vocab_size": 11,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-6,
}

# Two layers look back, over a window and over pairs of tokens; the draft head looks at one token.
MODEL = """
model Small for "llama"

config
  D = hidden_size: int
  V = vocab_size: int

block layer(x: [T, D]) -> out
  weight scale: f32[D] "scale"
  weight gates: f32[2, D] "gates"
  state recent: ring[3] f32[D]
  state pool: partial[2, 0] f32[D]
  state pairs: blocks[2] f32[D]
  near    = append(recent, x)
  pooled  = pool_windows(pool, x, x * scale, gates)
  entries = append(pairs, pooled)
  seen    = attend(reshape(x, [T, 1, D]), [(near, window(near)), (entries, visible(entries))],
                   scale = 0.5)
  out     = x + reshape(seen, [T, D])
  return out

entry logits(ids: i64[T]) -> logits, streams
  weight embed: f32[V, D] "embed"
  part layers: layer[layers] "layers.{l}."
  x = gather(embed, ids)
  for l in layers
    x = layers[l](x)
  return linear(x, embed), x

entry draft(streams: f32[T, D], ids: i64[T]) -> logits
  weight embed: f32[V, D] "embed"
  state kept: blocks[1] f32[D]
  x = streams + gather(embed, ids)
  keys = append(kept, x)
  seen = attend(reshape(x, [T, 1, D]), [(keys, visible(keys))], scale = 0.5)
  return linear(reshape(seen, [T, D]), embed)
"""


@cache
def small_module(folder: Path) -> ModuleOp:
    path = folder / "small.st"
    path.write_text(MODEL)
    return build_model(path, normalize(CONFIG, "config.json", json.dumps(CONFIG)))


def random_weights(use: WeightUse, layer: int | None) -> Array:
    """Numbers that depend on the name and the layer alone."""
    seed = [*use.pattern.encode(), layer or 0]
    return np.random.default_rng(seed).standard_normal(use.kind.get_shape()).astype(np.float32)


def runs(
    module: ModuleOp,
    rows: list[list[int]],
    request: Request | None = None,
    recorder: Recorder | None = None,
    weights: Any = random_weights,
    context: int = 40,
) -> Generated:
    """The small model on rows of tokens, draft head included."""
    executor = Executor(plan_module(module), weights, recorder.watch if recorder else None)
    sessions = [Session(executor, entry, len(rows), context) for entry in ("logits", "draft")]
    generator = Generator(sessions[0], sessions[1], recorder)
    return generator.run([np.array(row) for row in rows], request or Request())


def planned(body: str) -> ModulePlan:
    """The plan of functions by hand, the first one an entry @f."""
    attributes = 'attributes {supertile.entries = ["f"]}'
    text = f"{HEADER}\nbuiltin.module {attributes} {{\n{body}\n}}\n"
    return plan_module(parse_module(text, "test.mlir"))
