"""What the language means, in numbers: small models run and compared with NumPy.

x holds the table's row of each token, [T, H * C] with H = 2 and C = 4; a snippet computes y.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from snippets import Array, run

RANDOM = np.random.default_rng(7)
H, C = 2, 4
ROWS = RANDOM.standard_normal((16, H * C)).astype(np.float32)
W: dict[str, Array] = {
    "rows": ROWS,
    "a": RANDOM.standard_normal((5, H * C)).astype(np.float32),
    "s": RANDOM.standard_normal(3).astype(np.float32),
    "k": RANDOM.standard_normal((3, C)).astype(np.float32),
    "gain": RANDOM.standard_normal(C).astype(np.float32),
    "e{e}": RANDOM.standard_normal((3, H * C, H * C)).astype(np.float32),
}
DECLARED = {
    "a": 'weight a: f32[5, H * C] "a"',
    "s": 'weight s: f32[3] "s"',
    "k": 'weight k: f32[3, C] "k"',
    "gain": 'weight gain: f32[C] "gain"',
    "heads": "heads = reshape(x, [T, H, C])",
}
IDS = [3, 1, 4, 1, 5, 9]


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def compute(snippet: str, *uses: str, ids: list[int] = IDS, item: str = "") -> Array:
    lines = [*(DECLARED[use] for use in uses), *snippet.split(" | ")]
    return run("\n".join(lines), W, [ids], item)[0]


X = ROWS[IDS]
HEADS = X.reshape(-1, H, C)

# snippet, what it declares before -> NumPy's answer
CASES: dict[tuple[str, ...], Callable[[], Any]] = {
    # numbers
    ("y = x * (2 + 3 * 4 - 10 / 4)",): lambda: X * 11.5,
    ("y = x * -2 ^ 2",): lambda: X * -4,
    ("y = x * 2 ^ 3 ^ 0.5 + H * C",): lambda: X * 2 ** (3**0.5) + 8,
    ("y = 1 - x / C",): lambda: 1 - X / 4,
    ("y = max(min(x, 0.5), -infinity)",): lambda: np.minimum(X, 0.5),
    # elementwise
    ("y = clamp(x, -1, 0.5)",): lambda: np.clip(X, -1, 0.5),
    ("y = silu(x) + relu(-x)",): lambda: X / (1 + np.exp(-X)) + np.maximum(-X, 0),
    ("y = sqrt(softplus(x)) * rsqrt(exp(x))",): lambda: np.sqrt(np.log1p(np.exp(X)) / np.exp(X)),
    ("y = bf16(x)",): lambda: X,  # the reference numerics round nothing
    # broadcasting by the names of sizes
    ("y = heads * gain", "heads", "gain"): lambda: HEADS * W["gain"],
    ("y = heads * s[1] + s[0]", "heads", "s"): lambda: HEADS * W["s"][1] + W["s"][0],
    # index equations
    ("y[c, t] = heads[t, 1, c]", "heads"): lambda: HEADS[:, 1].T,
    ("y[t, c] = sum(h: heads[t, h, c])", "heads"): lambda: HEADS.sum(1),
    ("y[t, k2] = sum(h, c: heads[t, h, c] * k[k2, c])", "heads", "k"): lambda: np.einsum(
        "thc,kc->tk", HEADS, W["k"]
    ),
    ("y[t, h, n] = heads[t, h, 0] * s[n] - s[n]", "heads", "s"): lambda: (
        HEADS[:, :, :1] * W["s"] - W["s"]
    ),
    ("y[t] = sum(d: x[t, d] * x[t, d] * 2) + sum(d: x[t, d])",): lambda: (
        2 * (X * X).sum(1) + X.sum(1)
    ),
    ("y[t, c] = sum(h: exp(heads[t, h, c]) / 2)", "heads"): lambda: np.exp(HEADS).sum(1) / 2,
    ("y[t] = sum(n: s[n]) * x[t, 0] + sum(c: gain[c]) * x[t, 1]", "s", "gain"): lambda: (
        W["s"].sum() * X[:, 0] + W["gain"].sum() * X[:, 1]
    ),
    # shapes
    ("p, q, r = split(x, [1, C - 1, H * C - C]) | y = concat(r, p, q)",): lambda: np.roll(X, 4, -1),
    ("p, q = split(heads, [1, H - 1], axis = 1) | y[t, c] = q[t, 0, c] - p[t, 0, c]", "heads"): (
        lambda: HEADS[:, 1] - HEADS[:, 0]
    ),
    ("y = repeat(x, 3)",): lambda: np.repeat(X[:, None], 3, 1),
    # selection
    ("y = take(x, top(x, 3))",): lambda: -np.sort(-X, -1)[:, :3],
    ("y = where(member(top(x, 2), H * C), x, 0)",): lambda: np.where(
        np.sort(X, -1)[:, -2:-1] <= X, X, 0
    ),
    ("y = where(member(top(x, 1), H * C), 1, 2)",): lambda: 2 - (X.max(-1, keepdims=True) == X),
    ("best[t, h] = heads[t, h, 0] | y = where(member(top(best, 1), H), heads, best)", "heads"): (
        lambda: np.where(
            (HEADS[:, :, 0] == HEADS[:, :, 0].max(1, keepdims=True))[..., None],
            HEADS,
            HEADS[:, :, :1],
        )
    ),
    # products and norms
    ("y = linear(x, a)", "a"): lambda: X @ W["a"].T,
    ("y = rms_norm(heads, gain, 0.5)", "heads", "gain"): lambda: (
        W["gain"] * HEADS / np.sqrt((HEADS**2).mean(-1, keepdims=True) + 0.5)
    ),
    ("y = rms_scale(x, 0.5)",): lambda: X / np.sqrt((X**2).mean(-1, keepdims=True) + 0.5),
    ("y = softmax(heads)", "heads"): lambda: softmax(HEADS),
    ("y = rope_back(turned(heads), position, main)", "heads"): lambda: HEADS,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_snippet(case: tuple[str, ...]) -> None:
    snippet, *uses = case
    found, expected = compute(snippet, *uses), CASES[case]()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_rope_turns_by_position() -> None:
    found = run("y = turned(reshape(x, [T, H, C]))", W, [[2, 2], [2]])
    angle = np.array([1.0, 100.0**-0.5])  # theta 100 over 4 channels, in halves
    for position, row in enumerate([found[0][0], found[0][1], found[1][0]]):
        first, second = ROWS[2].reshape(H, 2, 2).swapaxes(0, 1)
        cos, sin = np.cos(position * angle), np.sin(position * angle)
        turned = [first * cos - second * sin, second * cos + first * sin]
        np.testing.assert_allclose(row, np.concatenate(turned, -1), rtol=1e-5, atol=1e-6)


def test_state_is_what_earlier_calls_brought() -> None:
    snippet = """\
state kept: blocks[1] f32[H * C]
seen = append(kept, x)
y[t, s] = sum(d: seen[t, s, d] * x[t, d])"""
    first, second = run(snippet, W, [[1, 2], [3]])
    assert second.shape == (1, 32)
    np.testing.assert_allclose(second[0, :3], ROWS[[1, 2, 3]] @ ROWS[3], rtol=1e-5)
    np.testing.assert_allclose(first[1, :2], ROWS[[1, 2]] @ ROWS[2], rtol=1e-5)


@pytest.mark.parametrize("state", ["blocks[1]", "ring[3]"])
def test_attention_over_state(state: str) -> None:
    index = "visible(seen)" if state.startswith("blocks") else "window(seen)"
    snippet = f"""\
state kept: {state} f32[C]
heads = reshape(x, [T, H, C])
first, rest = split(x, [C, C * (H - 1)])
seen = append(kept, first)
y = attend(heads, [(seen, {index})], scale = 0.5)"""
    ids = [1, 2, 3, 4, 5]
    found = np.concatenate(run(snippet, W, [ids[:2], ids[2:]]))
    for t in range(5):
        keys = ROWS[ids][max(0, t - 2) if "window" in index else 0 : t + 1, :C]
        scores = softmax(0.5 * ROWS[ids[t]].reshape(H, C) @ keys.T)
        np.testing.assert_allclose(found[t], scores @ keys, rtol=1e-4, atol=1e-6)


def test_windows_pool_when_they_complete() -> None:
    snippet = """\
state pool: partial[2, 0] f32[H * C]
state kept: blocks[2] f32[H * C]
weight bias: f32[2, H * C] "bias"
pooled = pool_windows(pool, x, 2 * x, bias)
seen = append(kept, pooled)
y[t, s] = sum(d: seen[t, s, d] * x[t, d])"""
    bias = RANDOM.standard_normal((2, H * C)).astype(np.float32)
    *_, last = run(snippet, {**W, "bias": bias}, [[1], [2, 3], [4]])
    for window in (0, 1):
        values = ROWS[[1, 2, 3, 4]][2 * window : 2 * window + 2]
        pooled = (softmax((2 * values + bias).T).T * values).sum(0)
        np.testing.assert_allclose(last[0, window], pooled @ ROWS[4], rtol=1e-4)


def test_route_sums_the_chosen_experts() -> None:
    item = """\
block expert(x: [M, N], g: [M]) -> y
  weight w: f32[N, N] ""
  scaled[m, n] = g[m] * x[m, n]
  return linear(scaled, w)"""
    snippet = """\
part experts: expert[3] "e{e}"
few, rest = split(x, [3, H * C - 3])
chosen = top(few, 2)
y = route(experts, x, take(few, chosen), chosen)"""
    found = compute(snippet.replace("\n", " | "), item=item)
    for row, x in zip(found, X, strict=True):
        best = np.argsort(-x[:3])[:2]
        expected = sum(x[e] * (W["e{e}"][e] @ x) for e in best)
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)
