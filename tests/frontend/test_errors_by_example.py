"""Errors by example: a malformed snippet, the code and place of its error, a word of its message.

A case is (where the snippet goes, the snippet, a word). `@` marks the place that the error names;
it is taken out before the text is read. Without it the error has its place outside the snippet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from snippets import BASE, KEYS, build, config, put, v4_config

from supertile.frontend.build import build_model
from supertile.frontend.hf_config import Config, normalize
from supertile.frontend.parse import LENGTH_LIMIT, parse_model, read_model_file
from supertile.frontend.program import IMPORT_LIMIT, load_program
from supertile.ir.errors import LANGUAGE_TEXTS, UserError

# A column of kinds of attention, which the config of this family has.
V4_BASE = BASE.replace('"llama"', '"deepseek_v4"')

Case = tuple[str, str, str]
CASES: dict[str, list[Case]] = {
    # -- the text and the grammar
    "language.too_deep": [
        ("body", "y = " + "(" * 40 + "@(1))", "nests"),
        ("body", "y = x" + " + x" * 200 + " @+ x", "nests"),
        ("item", "block a(x) -> y\n  return " + "(" * 41, "nests"),
    ],
    "language.character": [("body", "y = z @% 2", "'%'"), ("body", "y = z @; q = z", "';'")],
    "language.syntax": [
        ("body", "y = (z @", "end of the file"),
        ("body", "y = z @)", "`)`"),
        ("body", "y = z @z", "a name"),
        ("body", "weight @state: bf16[D] \"s\"", "reserved word"),
        ("body", "y @", "`=`"),
        ("body", "y = @if z", "a name"),
        ("body", "y = z = @z", "`=`"),
        ("item", "block a(x) -> y@\nreturn x", "indent the body"),
        ("item", "  @format f = f32", "indented"),
        ("item", "block @table(x) -> y\n  return x", "reserved word"),
        ("body", 'part p: norm(D) @', "quotes"),
        ("config", "F = intermediate_size @", "`:`"),
    ],
    "language.indentation": [
        ("item", "block a(x) -> y\n    z = 2 * x\n  @ return z".replace("@ ", "@"), "indentation")
    ],
    "language.number": [
        ("body", "y = z * @10 ^ 60", "number"),
        ("body", "y = z / @0.0 ^ 2", "number") if False else ("body", "y = z * (@1 / 0)", "number"),
        ("body", "y = z * @99999999999999999999", "number"),
        ("body", "y = z * @1e999", "number"),
        ("body", "y = z * (@infinity - infinity)", "number"),
        ("body", "y = z * (@(-1) ^ 0.5)", "number"),
        ("body", "y = z * (@2 ^ 65)", "number"),
        ("body", "y = reshape(z, @[D / (D - 8)])", "size"),
    ],
}
