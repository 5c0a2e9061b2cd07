"""Makes the cases of `tests/data/oracle`: tiny models and their logits by transformers.

    python tests/data/oracle_cases.py tests/data/oracle [NAME...]

Needs torch 2.13 and transformers 5.23, which nothing else here does: run it in an environment of
its own. A case is one file: `config`, the text of config.json; `ids` and `logits` of one forward
pass in float32; `shapes`, JSON from each tensor's released name to its shape; and `numbers`, all
tensors one after the other. Weights are exact in FP8 so that they compress.

A case is made only if it can be trusted: token by token transformers finds the same logits, and no
selection hangs on less than MARGIN, where a last bit would change the answer.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np

MARGIN = 1e-4  # of scores: the last that was chosen over the first that was not
AGREEMENT = 5e-5  # of logits: one pass and token by token
TRIES = 100  # seeds

SLIDING, CSA, HCA = (
    "sliding_attention",
    "compressed_sparse_attention",
    "heavily_compressed_attention",
)
YARN = {
    "rope_type": "yarn",
    "factor": 16,
    "beta_fast": 32,
    "beta_slow": 1,
    "original_max_position_embeddings": 64,
}
V3_YARN = {**YARN, "factor": 8.0, "rope_theta": 10000.0, "mscale": 1.0, "mscale_all_dim": 1.0}

# ---- what the cases have in common, and what each has of its own ---------------------------------

V4 = {
    "vocab_size": 48,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "partial_rotary_factor": 0.25,
    "q_lora_rank": 16,
    "o_groups": 2,
    "o_lora_rank": 8,
    "index_n_heads": 8,
    "index_head_dim": 16,
    "index_topk": 3,
    "sliding_window": 4,
    "layer_types": [SLIDING, CSA, HCA, CSA],
    "compress_rates": {CSA: 4, HCA: 16},
    "mlp_layer_types": ["hash_moe", "hash_moe", "moe", "moe"],
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "swiglu_limit": 1.5,
    "rope_parameters": YARN,
    "max_position_embeddings": 1024,
    "num_nextn_predict_layers": 0,
}
V3 = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "kv_lora_rank": 12,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 512,
    "rope_parameters": V3_YARN,
}
LLAMA = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

# name: (architecture, batch, tokens, what differs)
CASES = {
    "v4_one_token": ("V4", 1, 1, {}),
    "v4_two_tokens_window_1": (
        "V4",
        3,
        2,
        {"sliding_window": 1, "compress_rates": {CSA: 2, HCA: 8}},
    ),
    "v4_shorter_than_windows": (
        "V4",
        3,
        5,
        {"sliding_window": 16, "compress_rates": {CSA: 8, HCA: 16}},
    ),
    "v4_ratios_2_8": ("V4", 3, 37, {"compress_rates": {CSA: 2, HCA: 8}}),
    "v4_ratios_8_32_window_16": (
        "V4",
        1,
        37,
        {"sliding_window": 16, "compress_rates": {CSA: 8, HCA: 32}, "index_topk": 2},
    ),
    "v4_top_1_two_streams": (
        "V4",
        1,
        37,
        {"index_topk": 1, "hc_mult": 2, "num_attention_heads": 6, "o_groups": 3},
    ),
    "v4_top_k_beyond_blocks": ("V4", 1, 37, {"index_topk": 64, "index_n_heads": 5}),
    "v4_all_hashed": (
        "V4",
        1,
        37,
        {
            "mlp_layer_types": ["hash_moe"] * 4,
            "sliding_window": 1,
            "rope_parameters": {"rope_type": "default"},
        },
    ),
    "v4_none_hashed": (
        "V4",
        3,
        37,
        {
            "mlp_layer_types": ["moe"] * 4,
            "layer_types": [HCA, HCA, CSA, SLIDING],
            "num_experts_per_tok": 4,
            "o_groups": 1,
        },
    ),
    "v3_odd_heads_all_sparse": (
        "V3",
        3,
        37,
        {"num_attention_heads": 3, "num_key_value_heads": 3, "first_k_dense_replace": 0},
    ),
    "v3_one_group_no_yarn": (
        "V3",
        1,
        37,
        {
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 2,
            "n_shared_experts": 2,
            "rope_parameters": PLAIN_ROPE,
        },
    ),
    "v3_other_magnitudes": (
        "V3",
        1,
        37,
        {
            "rope_parameters": {**V3_YARN, "mscale": 0.707, "mscale_all_dim": 0.4},
            "rope_interleave": False,
        },
    ),
    "llama_one_key_head": ("Llama", 3, 37, {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "llama_all_key_heads": ("Llama", 1, 37, {"num_key_value_heads": 4, "head_dim": 12}),
    "llama_slowed_rope": ("Llama", 1, 75, {"rope_parameters": LLAMA3_ROPE}),
}
BASES = {"V4": V4, "V3": V3, "Llama": LLAMA}


def build(architecture, changes):
    """A model of transformers, with weights to be filled."""
    import transformers

    settings = {**BASES[architecture], **changes}
    if architecture == "V4":
        settings["num_hidden_layers"] = len(settings["layer_types"])
    prefix = {"V4": "DeepseekV4", "V3": "DeepseekV3", "Llama": "Llama"}[architecture]
    config = getattr(transformers, f"{prefix}Config")(**settings)
    config._attn_implementation = "eager"
    return getattr(transformers, f"{prefix}ForCausalLM")(config).float().eval()


# ---- weights -------------------------------------------------------------------------------------

# Name -> standard deviation and mean, so that gates, clamp, sinks and selections all show. The
# standard deviation of matrices is divided by the root of their width.
SPREADS = (
    (r"e_score_correction_bias", 0.25, 0.0),
    (r"sinks|position_bias", 1.0, 0.0),
    (r"hc_head\.hc_base|_hc\.base", 0.7, 0.0),
    (r"hc_head\.hc_scale|_hc\.scale", 0.2, 1.0),
    (r"norm\.weight", 0.2, 1.0),
)
GAINS = (
    (r"embed_tokens", None),
    (r"lm_head|compressor.*gate_proj", 2.0),
    (r"_hc\.fn|hc_head\.hc_fn|experts|\.gate\.weight", 1.5),
    (r"", 1.2),
)


def fill(model, generator):
    import torch

    config = model.config
    for name, held in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("inv_freq"):
            continue
        if name.endswith("tid2eid"):
            orders = torch.rand(
                (config.vocab_size, config.n_routed_experts), generator=generator
            ).argsort(-1)
            held.data.copy_(orders[:, : config.num_experts_per_tok])
            continue
        spread, mean = _spread(name, held)
        drawn = torch.randn(held.shape, generator=generator) * spread + mean
        held.data.copy_(drawn.to(torch.float8_e4m3fn).float())


def _spread(name, held):
    for pattern, spread, mean in SPREADS:
        if re.search(pattern, name):
            return spread, mean
    gain = next(gain for pattern, gain in GAINS if re.search(pattern, name))
    return (1.0 if gain is None else gain / held.shape[-1] ** 0.5), 0.0


# transformers' names of DeepSeek-V4's tensors -> the released ones.
V4_NAMES = (
    (r"^model\.", ""),
    (r"^embed_tokens", "embed"),
    (r"^lm_head", "head"),
    (r"^hc_head\.hc_", "hc_head_"),
    (r"\.(attn|ffn)_hc\.", r".hc_\1_"),
    (r"\.input_layernorm", ".attn_norm"),
    (r"\.post_attention_layernorm", ".ffn_norm"),
    (r"\.self_attn\.", ".attn."),
    (r"\.compressor\.indexer\.scorer\.", ".indexer."),
    (r"\.compressor\.indexer\.q_b_proj", ".indexer.wq_b"),
    (r"\.compressor\.indexer\.", ".indexer.compressor."),
    (r"(compressor\.)kv_norm", r"\1norm"),
    (r"(compressor\.)kv_proj", r"\1wkv"),
    (r"(compressor\.)gate_proj", r"\1wgate"),
    (r"\.position_bias", ".ape"),
    (r"\.sinks", ".attn_sink"),
    (r"\.q_a_norm", ".q_norm"),
    (r"\.(q_a|q_b|o_a|o_b)_proj", lambda found: f".w{found[1]}"),
    (r"(attn\.)kv_proj", r"\1wkv"),
    (r"\.mlp\.", ".ffn."),
    (r"\.e_score_correction_bias", ".bias"),
    (r"(shared_experts\.)gate_proj", r"\1w1"),
    (r"(shared_experts\.)up_proj", r"\1w3"),
    (r"(shared_experts\.)down_proj", r"\1w2"),
)


def released(model, architecture):
    """The tensors under the names of the release, experts one by one."""
    tensors = {}
    for name, held in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        for pattern, replacement in V4_NAMES if architecture == "V4" else ():
            name = re.sub(pattern, replacement, name)
        tensors.update(_unstacked(name, held.numpy(), architecture))
    return tensors


def _unstacked(name, held, architecture):
    gate, up, down = (
        ("w1", "w3", "w2") if architecture == "V4" else ("gate_proj", "up_proj", "down_proj")
    )
    prefix = name.rpartition(".")[0]
    if name.endswith("experts.down_proj"):
        return {f"{prefix}.{e}.{down}.weight": matrix for e, matrix in enumerate(held)}
    if not name.endswith("experts.gate_up_proj"):
        return {name: held}
    halves = [np.split(matrix, 2) for matrix in held]
    return {
        f"{prefix}.{e}.{part}.weight": half
        for e, both in enumerate(halves)
        for part, half in zip((gate, up), both, strict=True)
    }


# ---- logits, and whether they can be trusted -----------------------------------------------------


class Margins:
    """The smallest distance between what a selection took and what it left, over one pass."""

    def __init__(self, model):
        self.smallest = np.inf
        for name, module in model.named_modules():
            if name.endswith("indexer.scorer"):
                module.register_forward_hook(self._scored(model.config))
            if name.endswith("mlp.gate") and hasattr(module, "e_score_correction_bias"):
                module.register_forward_hook(self._routed(model.config))

    def _scored(self, config):
        def look(module, arguments, scores):
            ratio = config.compress_rates[CSA]
            for row in scores.numpy():
                for token, seen in enumerate(row):
                    self._look(seen[: (token + 1) // ratio], config.index_topk)

        return look

    def _routed(self, config):
        def look(module, arguments, results):
            logits = results[0].double().numpy().reshape(-1, config.n_routed_experts)
            if config.model_type == "deepseek_v4":
                scores = np.sqrt(np.logaddexp(0, logits))
            else:
                scores = 1 / (1 + np.exp(-logits))
            for row in scores + module.e_score_correction_bias.numpy():
                self._look(self._open(row, config), config.num_experts_per_tok)

        return look

    def _open(self, scores, config):
        """Of DeepSeek-V3's experts those in the groups whose best two have the largest sums."""
        if config.model_type != "deepseek_v3":
            return scores
        groups = np.sort(scores.reshape(config.n_group, -1))
        totals = groups[:, -2:].sum(1)
        self._look(totals, config.topk_group)
        return groups[np.argsort(totals)[-config.topk_group :]].reshape(-1)

    def _look(self, scores, count):
        if len(scores) > count:
            ordered = np.sort(scores)[::-1]
            self.smallest = min(self.smallest, float(ordered[count - 1] - ordered[count]))


def make(folder, name):
    import torch

    architecture, batch, tokens, changes = CASES[name]
    model = build(architecture, changes)
    margins = Margins(model)
    for seed in range(TRIES):
        margins.smallest = np.inf
        generator = torch.Generator().manual_seed(seed)
        fill(model, generator)
        ids = torch.randint(0, model.config.vocab_size, (batch, tokens), generator=generator)
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits
            margin = margins.smallest
            if margin < MARGIN:
                continue
            apart = float((stepwise(model, ids) - logits).abs().max())
        if apart <= AGREEMENT:
            break
    else:
        raise SystemExit(f"{name}: no seed will do; the last margin is {margin:.1e}")
    weights = released(model, architecture)
    shapes = json.dumps({key: held.shape for key, held in weights.items()})
    numbers = np.concatenate([held.reshape(-1).astype(np.float32) for held in weights.values()])
    texts = {"config": json.dumps(settings_of(model), indent=1, sort_keys=True), "shapes": shapes}
    path = folder / f"{name}.npz"
    np.savez_compressed(path, ids=ids.numpy(), logits=logits.numpy(), numbers=numbers, **texts)
    spread, size = float(logits.std()), path.stat().st_size // 1000
    print(
        f"{name}: seed {seed}, margin {margin:.1e}, apart {apart:.1e}, std {spread:.1f}, {size} kB"
    )


def stepwise(model, ids):
    import torch
    from transformers import DynamicCache

    if getattr(model.config, "sliding_window", None) == 1:  # its cache keeps too much for that
        rows = [
            model(ids[:, : at + 1], use_cache=False).logits[:, -1:] for at in range(ids.shape[1])
        ]
        return torch.cat(rows, 1)
    cache = DynamicCache(config=model.config)
    rows = [
        model(ids[:, at : at + 1], past_key_values=cache, use_cache=True).logits
        for at in range(ids.shape[1])
    ]
    return torch.cat(rows, 1)


def settings_of(model):
    """The keys of config.json that describe the model."""
    settings = json.loads(model.config.to_json_string(use_diff=False))
    known = set(BASES["V4"]) | set(BASES["V3"]) | set(BASES["Llama"])
    known |= {"model_type", "num_hidden_layers", "rope_interleave", "tie_word_embeddings"}
    known |= {"hc_mult", "hc_sinkhorn_iters", "hc_eps", "rms_norm_eps", "rope_theta"}
    known |= {"compress_rope_theta", "scoring_func", "norm_topk_prob", "routed_scaling_factor"}
    known |= {"hidden_act", "attention_bias", "mlp_bias"}
    return {key: value for key, value in settings.items() if key in known and value is not None}


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(exist_ok=True)
    for chosen in sys.argv[2:] or CASES:
        make(target, chosen)
