"""Makes a V4 model of 93 million parameters by seed, and what transformers computes with it.

    python bench/reference_v4.py FOLDER 512 1024 4096

Needs torch 2.13 and transformers 5.23, which nothing else here does: run it in an environment of
its own (`pip install torch==2.13.0 transformers==5.23.0`). FOLDER then has config.json,
model.safetensors under the released names, and for each number of tokens `ids_N.npy` and
`reference_N.npz`, which `supertile run --against` takes: logits, experts chosen, blocks chosen,
and the scores that these were chosen by, of one forward pass in float32.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "data"))
import oracle_cases
import tie_case
from oracle_cases import CSA, HCA, SLIDING

SEED = 0
MODEL = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "head_dim": 128,
    "partial_rotary_factor": 0.5,
    "q_lora_rank": 256,
    "o_groups": 4,
    "o_lora_rank": 128,
    "index_n_heads": 8,
    "index_head_dim": 64,
    "index_topk": 64,
    "sliding_window": 128,
    "layer_types": [SLIDING, HCA, CSA, HCA, CSA, SLIDING],
    "compress_rates": {CSA: 4, HCA: 128},
    "mlp_layer_types": ["hash_moe", "hash_moe", "moe", "moe", "moe", "moe"],
    "n_routed_experts": 32,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 256,
    "swiglu_limit": 10.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("tokens", type=int, nargs="+")
    options = parser.parse_args()
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        sys.exit(
            f"{error.name} is not installed here: the reference is made by transformers on torch, "
            "in an environment of its own (pip install torch==2.13.0 transformers==5.23.0)"
        )
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    model = oracle_cases.build("V4", MODEL)
    generator = torch.Generator().manual_seed(SEED)
    oracle_cases.fill(model, generator)
    tie_case.write_model(options.folder, model)
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{parameters / 1e6:.0f} million parameters, seed {SEED}")
    ids = torch.randint(0, MODEL["vocab_size"], (1, max(options.tokens)), generator=generator)
    for count in options.tokens:
        start = time.perf_counter()
        arrays = tie_case.reference(model, ids[:, :count])
        np.save(options.folder / f"ids_{count}.npy", ids[:, :count].numpy())
        np.savez(options.folder / f"reference_{count}.npz", **arrays)
        print(f"{count} tokens by transformers in {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
