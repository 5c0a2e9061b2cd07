"""Whatever is done to the text of a model, the answer is a module that verifies, or a UserError."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from snippets import BASE, DATA, build, put

import supertile.models
from supertile.frontend.hf_config import Config, read_config
from supertile.ir.errors import UserError

MODELS = Path(next(iter(supertile.models.__path__)))
MODEL_NAMES = ("base", "llama", "deepseek_v3", "deepseek_v4")
TOKEN = re.compile(r"\w+|\s+|.")
quiet = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
WORD_TEXT = """
    ( ) [ ] { } , : . = -> + - * / ^ 0 1 9 2.5 D H C T B N x y z q w none position infinity eps
    block part weight state entry format table return for in layers sum layer.rope norm "" "{e}"
    linear reshape split append attend route top window visible bf16 f32 i64 fp8 "{l}" "a.b" #
"""
WORDS = (*WORD_TEXT.split(), "\n", "\n  ", "\n    ")


@cache
def tokens(name: str) -> tuple[str, ...]:
    text = put(BASE) if name == "base" else (MODELS / f"{name}.st").read_text()
    return tuple(TOKEN.findall(text))


@cache
def family_config(name: str) -> Config | None:
    return None if name == "base" else read_config(DATA / name / "config.json")


def compile_any(text: str, name: str, numerics: str) -> None:
    try:
        module = build(text, family_config(name), numerics)
    except UserError as error:
        assert error.code.startswith(("language.", "config."))
        assert "Traceback" not in error.render()
        return
    module.verify()


changes = st.lists(
    st.tuples(
        st.sampled_from(["delete", "double", "swap", "replace", "insert"]),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.sampled_from(WORDS) | st.text(max_size=3),
    ),
    min_size=1,
    max_size=3,
)


def changed(held: list[str], what: str, at: int, other: int, word: str) -> None:
    at, other = at % len(held), other % len(held)
    match what:
        case "delete":
            held[at] = ""
        case "double":
            held[at] *= 2
        case "swap":
            held[at], held[other] = held[other], held[at]
        case "replace":
            held[at] = word
        case _:
            held[at] += f" {word} "


@pytest.mark.parametrize("name", MODEL_NAMES)
@quiet
@given(changes, st.sampled_from(["reference", "deployed"]))
def test_changed_tokens(name: str, edits: list[tuple[str, int, int, str]], numerics: str) -> None:
    held = list(tokens(name))
    for edit in edits:
        changed(held, *edit)
    compile_any("".join(held), name, numerics)


@pytest.mark.parametrize("name", MODEL_NAMES)
@quiet
@given(st.sampled_from(["delete", "double", "swap"]), st.integers(0, 999), st.integers(0, 999))
def test_changed_lines(name: str, what: str, at: int, other: int) -> None:
    lines = "".join(tokens(name)).splitlines(keepends=True)
    changed(lines, what, at, other, "")
    compile_any("".join(lines), name, "reference")


# Expressions of the right form and any meaning: most errors of kinds and sizes come from these.
names = st.sampled_from(["x", "z", "heads", "w", "v", "D", "C", "T", "eps", "norm", "none", "2"])
calls = st.sampled_from(
    [
        "{0} + {1}", "{0} * {1}", "-{0}", "{0} / {1}", "{0} ^ {1}", "({0}, {1})", "[{0}, {1}]",
        "linear({0}, {1})", "reshape({0}, [T, {1}])", "reshape({0}, {1})", "split({0}, {1})",
        "concat({0}, {1})", "softmax({0})", "top({0}, {1})", "take({0}, top({0}, 2))",
        "member(top({0}, 1), {1})", "where(member(top({0}, 1), D), {1}, 0)", "norm({0})",
        "rms_norm({0}, {1}, eps)", "rope({0}, position, layer.rope)", "gather({0}, {1})",
        "repeat({0}, {1})", "sinkhorn({0}, {1}, eps)", "bf16({0})", "max({0}, {1})",
        "clamp({0}, 0, {1})", "append(kept, {0})", "visible({0})", "round_trip({0}, row8)",
        "attend({0}, [(append(kept, {1}), position)], scale = 1)", "first_position({0})",
        "sum(i: {0}[i])", "sum(i, j: {0}[i, j] * {1}[i, j])", "{0}[0, {1}]", "{0}[{1}]",
        "route(experts, {0}, take({0}, top({0}, 2)), top({1}, 2))", "window(append(near, {0}))",
        "pool_windows(pool, {0}, {0}, {1})",
    ]
)  # fmt: skip
expressions = st.recursive(
    names,
    lambda inner: st.builds(lambda f, a, b: f.format(a, b), calls, inner, inner),
    max_leaves=6,
)
ITEM = """\
block expert(x: [M, D], g: [M]) -> y
  weight u: row8[D, D] "u"
  return g * linear(x, u)"""
BODY = """\
state kept: blocks[1] bf16[H, C]
state near: ring[4] f32[D]
state pool: partial[4, 1] f32[D]
part experts: expert[3] "e{{e}}."
q = append(near, x)
r = pool_windows(pool, x, x, concat(w, w))
y = {0}
s = route(experts, x, take(x, top(x, 2)), top(x, 2))
k = append(kept, heads)"""
EQUATION = "y[t, d] = {0}"


@settings(quiet, max_examples=250)
@given(expressions, st.sampled_from(["reference", "deployed"]))
def test_expressions_of_any_meaning(expression: str, numerics: str) -> None:
    kept = [line for line in BODY.splitlines() if _free(line, expression)]
    compile_any(put(item=ITEM, body="\n".join(kept).format(expression)), "base", numerics)
    compile_any(put(item=ITEM, body=EQUATION.format(expression)), "base", numerics)


def _free(line: str, expression: str) -> bool:
    """State has one use: a line gives way where the expression uses what it would."""
    used = {"q =": "near", "r =": "pool", "s =": "experts", "k =": "kept"}
    return used.get(line[:3], "nothing") not in expression
