"""What users are told about running a model."""

from supertile.ir.error_texts.text import Text

RUN_TEXTS: dict[str, Text] = {
    "run.groups": Text(
        "the {ep} ranks of the experts do not fall into groups of --tp",
        expected="--tp that divides {ep}",
        found="--tp {found}",
        suggestion="--tp {nearest}",
    ),
    "run.group_slots": Text(
        "--slots is for experts on ranks of their own; with --ep 1 each of {tp} ranks has a slice "
        "of every expert",
        expected="--ep above 1, a multiple of --tp",
        found="--ep 1 --tp {tp}",
        suggestion="leave --slots out",
    ),
    # Programs
    "run.schedule_memory": Text(
        "@{name} counts bytes as a device holds them, NumPy holds values in float32",
        expected="a program scheduled with memory=runtime",
        suggestion="schedule with build-schedule{{memory=runtime}}",
    ),
    "run.schedule_size": Text(
        "the call is larger than what the program was scheduled for",
        expected="values of at most {held} bytes in this buffer",
        found="{needed} bytes",
        suggestion="schedule for more tokens, or feed fewer at once",
    ),
    # Token files
    "run.tokens_missing": Text("{file} {reason}", expected="a token file"),
    "run.tokens_huge": Text("{file} is too large", expected="at most {limit} bytes"),
    "run.tokens_empty": Text("{file} holds no tokens", expected="at least one sequence"),
    "run.tokens_broken": Text(
        "{file} cannot be read: {reason}", expected=".npy, .npz or text with token ids"
    ),
    "run.tokens_key": Text("{file} has no input_ids", expected="input_ids", found="{found}"),
    "run.tokens_shape": Text(
        "{file} does not hold token ids", expected="integers [B, S], lengths [B]", found="{found}"
    ),
    "run.tokens_word": Text(
        "this is no token id", expected="whole numbers, one sequence a line", found="{found}"
    ),
    "run.row_empty": Text(
        "sequence {row} of {file} is empty", expected="at least one token a sequence"
    ),
    "run.token_range": Text(
        "token {at} of sequence {row} is not in the vocabulary",
        expected="0 to one less than {size}",
        found="{found}",
        suggestion="use the tokens of this model's tokenizer",
    ),
    # What is run
    "run.context": Text(
        "the longest sequence is longer than the model's positions",
        expected="at most {limit} tokens (max_position_embeddings)",
        found="{found}",
    ),
    "run.prompt": Text(
        "no sequence has as many tokens as the prompt",
        expected="--prompt of at most {limit}, the tokens of the longest sequence",
        found="--prompt {found}",
        suggestion="leave --prompt out to prefill all tokens",
    ),
    "run.no_entry": Text("the model has no entry {name} under this config", expected="{known}"),
    "run.trace_unmatched": Text("no value has a name like {name:.100}", suggestion="{hint}"),
    "run.pin_broken": Text(
        "{file} cannot be used to pin values: {reason}", expected="an .npz file"
    ),
    "run.pin_rows": Text(
        "{name} cannot be pinned", expected="a value with a row for each token or each window"
    ),
    "run.pin_shape": Text("the pin {name} has another shape", expected="{wanted}", found="{found}"),
    "run.pin_dtype": Text("the pin {name} has another dtype", expected="{wanted}", found="{found}"),
    "run.pin_not_finite": Text(
        "the pin {name} holds no number for token {token} of sequence {sequence}",
        expected="finite numbers, or an infinity that the model computes there itself",
        found="{found}",
    ),
    "run.pin_not_causal": Text(
        "the pin {name} is not causal: token {token} of sequence {sequence} does not see that",
        expected="{wanted}",
        found="{found}",
    ),
    "run.pin_range": Text(
        "the pin {name} chooses what is not there for token {token} of sequence {sequence}",
        expected="{wanted}",
        found="{found}",
    ),
    "run.pin_count": Text(
        "the pin {name} does not choose as many as it must for token {token} of sequence "
        "{sequence}",
        expected="{wanted} different ones, the rest -1",
        found="{found}",
    ),
    "run.pin_effect": Text(
        "the model cannot go on with the pinned values of {names:.300}",
        found="{reason}",
        suggestion="pin numbers that the model could have computed: experts and blocks that exist",
    ),
    "run.not_finite": Text(
        "the {what} of token {token} of sequence {sequence} are not finite; the first value on the "
        "way to them that is not: {value}",
        expected="finite numbers",
        found="{numbers}, at {place}",
        suggestion="compare weights and pinned values before it with those of the model",
    ),
    "run.not_finite_once": Text(
        "the {what} of token {token} of sequence {sequence} are not finite, but were when the run "
        "was repeated to find out why",
        expected="runs that repeat, as with --row-invariant",
    ),
    "run.not_finite_stop": Text(
        "the run cannot go on with what is not finite: {value}",
        expected="finite numbers",
        found="{numbers}, at {place}; then {reason}",
        suggestion="compare weights and pinned values before it with those of the model",
    ),
    "run.pin_unused": Text(
        "no value {name} was computed",
        expected="names as --trace '*' shows them",
        suggestion="{hint}",
    ),
}
