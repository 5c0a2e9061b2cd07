"""Makes `tests/data/deepseek_v4_ties`: a tiny V4 whose indexer meets ties, by transformers.

    python tests/data/tie_case.py tests/data/deepseek_v4_ties

Needs torch 2.13 and transformers 5.23: see `oracle_cases.py`. With two heads the indexer's scores
are often exactly 0.0, a sum of ReLUs; where several blocks at the edge of the top-k have that
score, PyTorch takes any. A case is made only if nothing else is close: what is chosen and what is
not differs by MARGIN or is equal, and in float64 the same scores are 0.0.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import oracle_cases

BATCH, TOKENS = 2, 72
MARGIN = oracle_cases.MARGIN
TRIES = 300
CHANGES = {"index_n_heads": 2, "index_topk": 8}


def reference(model: Any, ids: Any) -> dict[str, np.ndarray]:
    """What `supertile run --against` takes, of one forward pass of a V4 over ids [B, S]."""
    import torch

    arrays: dict[str, np.ndarray] = {"input_ids": ids.numpy()}
    hooks = [
        hook
        for number, layer in enumerate(model.model.layers)
        for hook in _hooks(f"layers.{number}", layer, arrays, tuple(ids.shape))
    ]
    with torch.no_grad():
        arrays["logits"] = model(ids, use_cache=False).logits.numpy()
    for hook in hooks:
        hook.remove()
    return arrays


def _hooks(name: str, layer: Any, arrays: dict[str, np.ndarray], rows: tuple[int, int]) -> list:
    """What records the experts and blocks that a layer chooses, and their scores."""
    chosen, index = f"{name}.ffn.router.chosen", f"{name}.attn.far.index"

    def routed(gate: Any, _: Any, results: Any) -> None:
        logits, _, experts = results
        arrays[chosen] = experts.reshape(*rows, -1).numpy()
        if hasattr(gate, "e_score_correction_bias"):  # the same sum as in the router's forward
            scores = gate.score_fn(logits) + gate.e_score_correction_bias
            arrays[f"{chosen}.scores"] = scores.reshape(*rows, -1).numpy()

    def indexed(_: Any, __: Any, blocks: Any) -> None:
        arrays[index] = blocks.numpy()

    def scored(_: Any, __: Any, scores: Any) -> None:
        arrays[f"{index}.scores"] = scores.numpy()

    hooks = [layer.mlp.gate.register_forward_hook(routed)]
    indexer = getattr(layer.self_attn.compressor, "indexer", None)
    if indexer is not None:
        hooks.append(indexer.register_forward_hook(indexed))
        hooks.append(indexer.scorer.register_forward_hook(scored))
    return hooks


def write_model(folder: Path, model: Any) -> None:
    """config.json, and model.safetensors under the released names."""
    from safetensors.numpy import save_file

    tensors = oracle_cases.released(model, "V4")
    save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    settings = json.dumps(oracle_cases.settings_of(model), indent=1, sort_keys=True)
    (folder / "config.json").write_text(settings + "\n")


def closest(arrays: dict[str, np.ndarray], ratio: int) -> tuple[float, int]:
    """The smallest difference but 0.0 between what is chosen and what is not, and for how many
    tokens of equal scores not the first ones are chosen."""
    smallest, others = np.inf, 0
    for name in [name for name in arrays if f"{name}.scores" in arrays]:
        scores, chosen = arrays[f"{name}.scores"], arrays[name]
        width = chosen.shape[-1]
        for sequence, token in np.ndindex(chosen.shape[:2]):
            row = scores[sequence, token]
            row = row[: (token + 1) // ratio] if name.endswith("index") else row
            if len(row) <= width:
                continue
            ordered = np.sort(row)[::-1]
            apart = np.abs(ordered - ordered[width - 1 : width + 1, None])
            smallest = min(smallest, float(apart[apart > 0].min(initial=np.inf)))
            first = np.argsort(-row, kind="stable")[:width]
            others += set(first.tolist()) != set(chosen[sequence, token].tolist())
    return smallest, others


def zeros(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [arrays[name] == 0 for name in sorted(arrays) if name.endswith("index.scores")]


def main(folder: Path) -> None:
    import torch

    model = oracle_cases.build("V4", CHANGES)
    model.config._experts_implementation = "eager"  # the others know no float64
    for seed in range(TRIES):
        generator = torch.Generator().manual_seed(seed)
        oracle_cases.fill(model, generator)
        ids = torch.randint(0, model.config.vocab_size, (BATCH, TOKENS), generator=generator)
        arrays = reference(model, ids)
        ratio = model.config.compress_rates[oracle_cases.CSA]
        smallest, others = closest(arrays, ratio)
        if smallest < MARGIN or not others:
            continue
        exact = reference(model.double(), ids)
        model.float()
        seen = np.arange(TOKENS // ratio) < (np.arange(TOKENS)[:, None] + 1) // ratio
        pairs = zip(zeros(arrays), zeros(exact), strict=True)
        if all(np.array_equal(a & seen, b & seen) for a, b in pairs):
            break
    else:
        raise SystemExit("no seed will do")
    folder.mkdir(exist_ok=True)
    write_model(folder, model)
    np.savez_compressed(folder / "reference.npz", **arrays)
    size = sum(path.stat().st_size for path in folder.iterdir()) // 1000
    print(f"seed {seed}: {others} tokens choose otherwise, margin {smallest:.1e}, {size} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
