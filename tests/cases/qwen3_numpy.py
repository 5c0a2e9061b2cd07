"""Qwen3-MoE in float64 NumPy, written from the published description; it shares no code with
Supertile, and runs a sequence at once, token by token in its experts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Qwen3Moe:
    """A checkpoint's folder; `logits(ids)` of one sequence."""

    def __init__(self, folder: Path) -> None:
        self.sizes: dict[str, Any] = json.loads((folder / "config.json").read_text())
        tensors = load_file(folder / "model.safetensors")
        self.weights = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    def logits(self, ids: Integers) -> Floats:
        """[T, V] of token ids [T]."""
        x = self.weights["model.embed_tokens.weight"][ids]
        for number in range(self.sizes["num_hidden_layers"]):
            layer = f"model.layers.{number}."
            x = x + self.attention(self.norm(x, f"{layer}input_layernorm"), f"{layer}self_attn.")
            x = x + self.experts(self.norm(x, f"{layer}post_attention_layernorm"), f"{layer}mlp.")
        logits: Floats = self.norm(x, "model.norm") @ self.weights["lm_head.weight"].T
        return logits

    def norm(self, x: Floats, name: str) -> Floats:
        """Root mean square over the last axis."""
        mean = (x**2).mean(axis=-1, keepdims=True)
        scaled: Floats = x / np.sqrt(mean + self.sizes["rms_norm_eps"])
        return scaled * self.weights[f"{name}.weight"]

    def attention(self, x: Floats, name: str) -> Floats:
        """Heads of queries in groups that share keys and values; norms come before the rope."""
        query, key, value = (self.heads(x, f"{name}{part}_proj") for part in "qkv")
        query = self.turned(self.norm(query, f"{name}q_norm"))
        key = self.turned(self.norm(key, f"{name}k_norm"))
        shared = query.shape[1] // key.shape[1]
        key, value = key.repeat(shared, axis=1), value.repeat(shared, axis=1)
        scores = np.einsum("qhc,khc->hqk", query, key) / np.sqrt(self.sizes["head_dim"])
        scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
        out = np.einsum("hqk,khc->qhc", softmax(scores), value)
        result: Floats = out.reshape(len(x), -1) @ self.weights[f"{name}o_proj.weight"].T
        return result

    def heads(self, x: Floats, name: str) -> Floats:
        """[T, heads, channels]"""
        y = x @ self.weights[f"{name}.weight"].T
        return y.reshape(len(x), -1, self.sizes["head_dim"])

    def turned(self, x: Floats) -> Floats:
        """Channel i with channel i + half, by position / theta^(i / half)."""
        half = x.shape[-1] // 2
        angle = np.arange(len(x))[:, None] * self.sizes["rope_theta"] ** (-np.arange(half) / half)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        first, second = x[..., :half], x[..., half:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def experts(self, x: Floats, name: str) -> Floats:
        """The best experts of each token, weighed by their parts of the chosen probability."""
        probability = softmax(x @ self.weights[f"{name}gate.weight"].T)
        y = np.zeros_like(x)
        for token, row in enumerate(x):
            chosen = np.argsort(-probability[token])[: self.sizes["num_experts_per_tok"]]
            weights = probability[token, chosen] / probability[token, chosen].sum()
            for expert, weight in zip(chosen, weights, strict=True):
                y[token] += weight * self.feed_forward(row, f"{name}experts.{expert}.")
        return y

    def feed_forward(self, row: Floats, name: str) -> Floats:
        gate, up = (self.weights[f"{name}{part}_proj.weight"] @ row for part in ("gate", "up"))
        result: Floats = self.weights[f"{name}down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * up)
        return result


def softmax(x: Floats) -> Floats:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    result: Floats = e / e.sum(axis=-1, keepdims=True)
    return result
