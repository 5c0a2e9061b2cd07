"""The page on the language: its snippets compile, its list of functions is that of the table.

`python tests/docs/test_language.py --update` writes the list into the page.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from supertile.frontend.build import build_program
from supertile.frontend.builtins import BUILTINS
from supertile.frontend.hf_config import Config, normalize
from supertile.frontend.parse import parse_model, reserved_words
from supertile.frontend.program import program_of
from supertile.ir.errors import UserError

PAGE = Path(__file__).parents[2] / "docs" / "language.md"
BEGIN, END = "--update -->\n", "<!-- end -->"
KEYS = {
    "model_type": "llama",
    "hidden_size": 16,
    "vocab_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "head_dim": 4,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "rope_theta": 100.0,
    "tie_word_embeddings": False,
}

# What a fragment stands in: "items" beside other definitions, "entry" in the body of an entry.
ITEMS = """\
model Page for "llama"
config
  D = hidden_size: int
  V = vocab_size: int
  C = head_dim: int
  eps = rms_norm_eps: float
block uses(x) -> y
  weight w: f32[C, V] "w"
  return linear(x * eps, w)
FORMATS
SNIPPET
entry logits(ids: i64[T]) -> x
  weight embed: bf16[V, D] "embed"
  CALLS
  x = gather(embed, ids)
  return x
"""
ENTRY = """\
model Page for "llama"
config
  H = num_attention_heads: int
  C = head_dim: int
entry logits(ids: i64[T]) -> x
  weight rows: bf16[32, H * C] "rows"
  x = gather(rows, ids)
  SNIPPET
  weight used: f32[1] "used"
  return x * used[0]
"""


OWN = {
    "model_type": "mine",
    "blocks": {"count": 3, "width": 16},
    "vocab": 32,
    "heads": 4,
    "shared_heads": 2,
    "experts": 8,
    "chosen": 2,
    "dense_before": 1,
    "activation": "relu2",
    "kinds": ["sigmoid", "softmax", "softmax"],
}


def config(text: str) -> Config:
    """The keys that a model reads: of others it would be told."""
    if 'for "mine"' in text:
        return normalize(OWN, "config.json", json.dumps(OWN))
    always = ("model_type", "num_hidden_layers")
    keys = {key: value for key, value in KEYS.items() if key in always or key in text}
    return normalize(keys, "config.json", json.dumps(keys))


def snippets() -> list[tuple[str, str]]:
    """The kind and text of each fenced snippet of the language."""
    return re.findall(r"```st (\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def whole(kind: str, snippet: str) -> str:
    """The model that a snippet is part of; its blocks on [T, D] are put to use."""
    if kind == "model":
        return snippet
    if kind == "entry":
        return ENTRY.replace("SNIPPET", snippet.replace("\n", "\n  "))
    formats = "" if "format fp8" in snippet else "format fp8 = scaled(f8e4m3, f32, [8, 8])"
    called = re.findall(r"block (\w+)\(x: \[T, D\]\) -> (.*)", snippet)
    calls = [
        f'part use{i}: {block} "{i}."\n  {results} = use{i}(gather(embed, ids))'
        for i, (block, results) in enumerate(called)
        if "layers.{l}" not in snippet
    ]
    text = ITEMS.replace("CALLS", "\n  ".join(calls)).replace("FORMATS", formats)
    return text.replace("SNIPPET", snippet)


@pytest.mark.parametrize("number", range(len(snippets())))
@pytest.mark.parametrize("numerics", ["reference", "deployed"])
def test_snippets_compile(number: int, numerics: str) -> None:
    text = whole(*snippets()[number])
    program = program_of(parse_model(text, "model.st"))
    build_program(program, config(text), numerics).verify()


def test_there_are_snippets_of_every_kind() -> None:
    assert {kind for kind, _ in snippets()} == {"model", "items", "entry"}
    assert PAGE.read_text(encoding="utf-8").count("```st") == len(snippets()) > 7


def functions() -> str:
    lines = ["| function | gives |", "|---|---|"]
    lines += [f"| `{name}({held.usage})` | {held.meaning} |" for name, held in BUILTINS.items()]
    return "\n".join(lines) + "\n"


def test_functions_are_listed_as_they_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.split(BEGIN)[1].split(END)[0] == functions(), f"run {Path(__file__).name} --update"


def test_reserved_words_are_listed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = page.split("Reserved words:\n")[1].split(".\n")[0]
    assert listed.replace("`", "").split() == reserved_words()


def test_the_error_shown_is_the_error_given() -> None:
    kind, snippet = snippets()[0]
    page = PAGE.read_text(encoding="utf-8")
    shown = page.split("```text\n")[1].split("\n```")[0]
    wrong = whole(kind, snippet).replace("sigmoid(x[t, d])", "sigmod(x[t, d])")
    with pytest.raises(UserError) as caught:
        build_program(program_of(parse_model(wrong, "model.st")), config(wrong))
    assert caught.value.render() == shown


def update() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + BEGIN + functions() + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["--update"]:
    update()
