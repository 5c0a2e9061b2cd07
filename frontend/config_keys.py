"""Keys of a config that nobody read: which may be passed over, and which change the model.

What is read is recorded while it is read (`hf_config.Keys`, binds and requires of the model file);
this page knows of the rest. A key is harmless, or changes the architecture of some released model,
or is not known. Sources: the configuration classes of transformers 5.23, configs of releases.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

# fmt: off
HARMLESS = frozenset((
    # who made the file, and with what
    "architectures", "auto_map", "transformers_version", "torch_dtype", "dtype", "tokenizer_class",
    "unsloth_version", "unsloth_fixed", "license", "task_specific_params", "finetuning_task",
    "id2label", "label2id", "num_labels", "problem_type", "prefix", "max_position_embeddings",
    "_attn_implementation", "_commit_hash", "_name_or_path", "name_or_path",
    # training
    "initializer_range", "initializer_std", "router_aux_loss_coef", "router_z_loss_coef",
    "router_jitter_noise", "input_jitter_noise", "aux_loss_alpha", "aux_loss_coef", "seq_aux",
    "moe_aux_loss_coeff", "z_loss_coefficient", "mtp_loss_scaling_factor", "gradient_checkpointing",
    "gradient_clipping", "drop_path_rate", "layerdrop", "dropout", "embd_pdrop", "attn_pdrop",
    "resid_pdrop",
    # how some engine runs it
    "use_cache", "pretraining_tp", "ep_size", "chunk_size_feed_forward", "torchscript",
    "use_bfloat16", "use_flash_attn", "use_mamba_kernels", "use_mambapy", "is_decoder",
    "use_associative_scan", "model_parallel_size", "num_logits_to_keep", "return_dict",
    "use_return_dict", "return_dict_in_generate", "output_attentions", "output_hidden_states",
    "output_router_logits", "output_scores", "keys_to_ignore_at_inference",
    # how text is generated
    "max_length", "min_length", "max_new_tokens", "do_sample", "early_stopping", "num_beams",
    "num_beam_groups", "diversity_penalty", "temperature", "top_p", "typical_p",
    "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "bad_words_ids",
    "encoder_no_repeat_ngram_size", "num_return_sequences", "exponential_decay_length_penalty",
    "remove_invalid_values", "suppress_tokens", "begin_suppress_tokens",
))
# fmt: on
HARMLESS_FORM = re.compile(
    r"\w*_dropout(_prob)?|(\w+_)?(bos|eos|pad|unk|sep|cls|mask|eod)_token_id|freeze_\w+"
    r"|\w+_initializer_range|classifier_pooling|loss_\w+"
)


@dataclass(frozen=True)
class Meaning:
    """Keys that change a model, by the form of their names."""

    pattern: str
    text: str
    neutral: tuple[object, ...] = ()
    """Values that change nothing, besides null; where there are none, false, 0 and empty ones."""
    switch: str | None = None
    """A flag: while it is false the key does nothing."""

    @cached_property
    def form(self) -> re.Pattern[str]:
        """Compiled when a key is compared: most configs have none that nobody read."""
        return re.compile(self.pattern)


# The first form that fits the whole name says what the key means.
MEANINGS = (
    Meaning(
        r"norm_topk_prob|moe_renormalize|use_rope|is_causal|rope_interleaved?",
        "weights of experts, or positions, are used in another way where it is false",
        neutral=(True,),
    ),
    Meaning(r"index(er)?_\w+", "an indexer chooses what each token attends to (DeepSeek-V3.2)"),
    Meaning(r"engram_\w+", "tables of n-grams are looked up in some layers (DeepSeek-V4.1)"),
    Meaning(
        r"kv_source_\w+|candidate_\w+|num_kv_shared_layers|\w*(kv_share|share_kv|cla_)\w*",
        "layers share the keys and values of others (DeepSeek-V4.1, Gemma-3n)",
    ),
    Meaning(
        r"ple_\w+|(hidden|vocab)_size_per_layer\w*|\w*n_?gram\w*",
        "layers look up tables of their own (Gemma-3n)",
    ),
    Meaning(
        r"[HL]_(bp_)?cycles|n_layers_per_\w+|num_layers_per_\w+|layer_group_size|num_mem_blocks"
        r"|adapter_rank|use_shared_\w+|cross_layer_\w+",
        "layers are run more than once, share blocks, or look at each other",
    ),
    Meaning(r"tie_word_embeddings", "the output head is the embedding"),
    Meaning(r"compress_\w+", "keys and values are compressed over time (DeepSeek-V4)"),
    Meaning(r"hc_\w+|mhc_\w+|altup_\w+|laurel_\w+", "the residual has several streams"),
    Meaning(
        r"(text|vision|audio|video|speech|thinker|talker|llm)_config|vision_\w+|audio_\w+",
        "the model takes more than text, and its language model stands in an object of its own",
    ),
    Meaning(
        r"use_sliding_window|sliding_window\w*|attention_window\w*|window_size|swa_\w+",
        "tokens attend to the last few only",
        switch="use_sliding_window",
    ),
    Meaning(r"max_window_layers", "some layers have a window", switch="use_sliding_window"),
    Meaning(
        r"layer_types|layers_block_type|block_types|hybrid_\w+|attn_type_list|local_layer_ids",
        "layers are of different kinds",
        neutral=("full_attention",),
    ),
    Meaning(r"(attention_)?chunk_size|attention_chunk\w*", "tokens attend within chunks (Llama-4)"),
    Meaning(r"no_rope_\w+|nope_layer\w*", "some layers do not rotate queries and keys"),
    Meaning(r"\w*(full_attention|global_attn|attn_layer)_\w+", "layers take turns in attention"),
    Meaning(
        r"\w*attention_sinks?|\w*sink_\w+|sinks?|use_sinks?|learnable_sink\w*",
        "the softmax of attention has a sink",
    ),
    Meaning(
        r"(use_)?(qk|q|k)_(l2_?)?(layer_?)?norms?(_\w+)?",
        "queries and keys are normalised",
    ),
    Meaning(
        r"query_pre_attn_scalar|attn_scale|qk_scale\w*|rel_\w+|d_rel|floor_scale|attn_temperature\w*|log_scaling_\w+",
        "scores of attention are scaled in another way",
    ),
    Meaning(r"\w*softcap\w*|\w*soft_cap\w*|\w*logit_cap|clip_qkv", "values are capped"),
    Meaning(
        r"\w*_multipliers?|logits?_scal\w+|scale_(emb|depth)|dim_model_base|embedding_scale"
        r"|\w*(alpha|beta)_factor|mup_enabled|residual_weight|attention_value_scale",
        "values are scaled (Granite, MiniCPM)",
        neutral=(1,),
    ),
    Meaning(r"\w*attn_output_gate|output_gate_type|gating|use_gated\w*", "attention is gated"),
    Meaning(r"\w*_bias|use_bias|bias|add_bias\w*|bias_\w+", "there are biases"),
    Meaning(
        r"(linear|mamba|ssm|kda|lightning|conv|conv1d|short_conv|lru|rwkv|time_step|gdn)_\w+|\w+_mamba_\w+",
        "some layers keep a state instead of keys and values",
    ),
    Meaning(
        r"partial_rotary_factor|rotary_(pct|percent)",
        "a part of each head is rotated",
        neutral=(1,),
    ),
    Meaning(
        r"rotary_\w+|rope_\w+|layer_rope_\w+|use_\w*rope|original_max_position_embeddings|\w*mrope\w*|mscale\w*|alibi\w*|use_alibi|(local|global)_rope\w*",
        "positions enter in another way",
    ),
    Meaning(r"position_embedding_type", "positions enter in another way", ("rope", "rotary")),
    Meaning(r"\w*hash\w*|gate_temp\w*", "the router works in another way (DeepSeek-V4)"),
    Meaning(
        r"(expert|weight|kv_cache)_dtype|\w*quant(ize|ized|ization|_algo|_method|_type)?(_\w+)?"
        r"|(compression|sparsity|awq|gptq|bnb)_config|load_in_[48]bit|\w*_bits?",
        "weights or caches are stored in another format",
    ),
    Meaning(
        r"n_group|topk_group|num_expert_groups?|moe_layer_freq|decoder_sparse_step|moe_layer_step",
        "only some groups of experts, or only some layers, are routed",
        neutral=(1,),
    ),
    Meaning(
        r"\w*experts?(_\w+)?|moe_\w+|\w+_moe_\w+|mlp_layer_types|mlp_only_layers|num_dense_layers"
        r"|first_k_dense\w*|\w*(router|routed|routing)\w*|topk_method|scoring_func\w*"
        r"|score_func\w*|route_scale|top_?k_\w+|n_activated\w*|interleave_moe\w*",
        "which layers have experts, how many, or how they are chosen",
    ),
    Meaning(r"shared_intermediate_size|intermediate_size_mlp", "there is a shared feed-forward"),
    Meaning(
        r"\w*swiglu_\w+|activation_sparsity\w*|hidden_activation|activation_function|hidden_act|activation|act_fn\w*",
        "the feed-forward has another activation",
    ),
    Meaning(
        r"\w*_lora_rank|o_groups|qk?_\w*head_dim|v_head_dim|head_dim|kv_channels|num_kv_heads"
        r"|num_key_value_heads|num_attention_heads|multi_query\w*|attention_k_eq_v|num_\w*heads(_per_layer)?|\w+_head_dim",
        "the shape of attention",
    ),
    Meaning(
        r"\w*(intermediate|ffn|mlp)_(hidden_)?(size|dim)|ffn_dim|mlp_ratio"
        r"|use_double_wide_mlp",
        "the width of feed-forward",
    ),
    Meaning(
        r"use_(post|pre)_norm|gated_norm\w*|\w*(post|pre|sandwich)_norm\w*|norm_after|\w*parallel_(residual|attn)"
        r"|norm_type|layernorm_\w+|layer_norm_\w+|apply_residual\w*",
        "norms or the residual stand elsewhere",
    ),
    Meaning(
        r"is_encoder_decoder|add_cross_attention|cross_attn\w*|cross_attention\w*|prefix_lm"
        r"|use_bidirectional_attention",
        "tokens attend to an encoder or to what follows",
    ),
)
# Draft layers do without: the main model is whole, and whoever asks for drafts is told.
DRAFTS = re.compile(r"(dspark|mtp|num_mtp|use_mtp|num_nextn|draft|eagle)_\w+|use_mtp")
QUANTIZATION = "quantization_config"
"""Judged by `config_formats`."""
FACTORS = re.compile(r"(low|high)_freq_factor|factor|beta_\w+|original_max_\w+|\w+_factor|truncate")
"""What stands in an object that says how positions are stretched."""
STRETCHED = Meaning("", "positions are stretched in another way", neutral=(1, True))


@dataclass(frozen=True)
class Unread:
    """A key of the file that neither the front end nor the model file read."""

    path: str
    """Dots lead into objects."""
    value: object
    meaning: str | None
    """What it means where some released model has it; None: that is not known."""


def unread_keys(
    data: Mapping[str, object], read: Collection[str], values: Mapping[str, object]
) -> list[Unread]:
    """The keys of `data` that are not among those `read` and might mean something.

    `values` are the config's own, in which flags that the file leaves out have their defaults.
    """
    found: list[Unread] = []
    for path, value in _unread(data, frozenset(read), ""):
        name = path.rpartition(".")[2]
        if is_harmless(name) or path.partition(".")[0] == QUANTIZATION:
            continue
        meaning = _meaning_of(name, path)
        if meaning is None:
            if value is not None and value is not False:
                found.append(Unread(path, value, None))
        elif not _is_off(value, meaning, values):
            found.append(Unread(path, value, meaning.text))
    return found


def _meaning_of(name: str, path: str) -> Meaning | None:
    if DRAFTS.fullmatch(name):
        return None
    if "rope" in path and FACTORS.fullmatch(name):
        return STRETCHED
    return next((meaning for meaning in MEANINGS if meaning.form.fullmatch(name)), None)


def is_harmless(name: str) -> bool:
    """Whether a key of this name changes no number of any model."""
    return name in HARMLESS or HARMLESS_FORM.fullmatch(name) is not None


def _is_off(value: object, meaning: Meaning, values: Mapping[str, object]) -> bool:
    """Whether the value, or each of a list, says that there is nothing of the kind."""
    if meaning.switch is not None and values.get(meaning.switch) is False:
        return True
    if value is None or not meaning.neutral:
        return not value
    neutral = [(type(entry) is bool, entry) for entry in meaning.neutral]
    entries = value if isinstance(value, list) else [value]
    return all((type(entry) is bool, entry) in neutral for entry in entries)


def _unread(
    data: Mapping[str, object], read: frozenset[str], prefix: str
) -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        path = prefix + key
        inside = any(other.startswith(path + ".") for other in read)
        if "." in key:  # no path leads there
            yield path, value
        elif isinstance(value, Mapping) and (inside or path in read):
            yield from _unread(value, read, path + ".")
        elif path not in read:
            yield path, value
