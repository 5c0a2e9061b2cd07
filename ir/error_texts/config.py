"""What users are told about config.json."""

from supertile.ir.error_texts.text import Text

CONFIG_TEXTS: dict[str, Text] = {
    # The file
    "config.absent": Text(
        "{file} does not exist",
        expected="a Hugging Face config.json",
    ),
    "config.folder": Text(
        "{file} is a folder",
        expected="a Hugging Face config.json",
        suggestion="name the config.json inside it",
    ),
    "config.unreadable": Text(
        "{file} cannot be read: {reason}",
        expected="a Hugging Face config.json",
    ),
    "config.huge": Text(
        "{file} is too large for a configuration",
        expected="at most {limit} bytes",
        suggestion="name the config.json, not the weights",
    ),
    "config.encoding": Text(
        "{file} is not text",
        expected="JSON in UTF-8",
        found="a byte that is no UTF-8, at position {position}",
    ),
    "config.empty": Text(
        "{file} is empty",
        expected="a Hugging Face config.json",
        suggestion="fetch the file again",
    ),
    # The JSON
    "config.syntax": Text(
        "this is not JSON",
        found="{reason}",
        suggestion="look just before the mark; JSON has no comments and no trailing commas",
    ),
    "config.nested": Text(
        "{file} nests its lists and objects too deeply",
        expected="the few levels of a Hugging Face config.json",
    ),
    "config.duplicate": Text(
        "the key {key} stands twice in one object",
        suggestion="remove one of the two",
    ),
    "config.constant": Text(
        "{found} is not a number that a configuration can hold",
        expected="a finite number, integers with at most {digits} digits",
    ),
    "config.object": Text(
        "the configuration is not an object",
        expected='keys and values in braces, {{"model_type": ...}}',
        found="{found}",
    ),
    # One key
    "config.missing": Text(
        "{keys}",
        expected="{expected}",
    ),
    "config.type": Text(
        "`{key}` has the wrong type",
        expected="{expected}",
        found="{found}",
    ),
    "config.range": Text(
        "`{key}` is out of range",
        expected="{expected}",
        found="{found}",
    ),
    "config.choice": Text(
        "`{key}` has an unknown value",
        expected="{known}",
        found="{found}",
        suggestion="{hint}",
    ),
    "config.architecture": Text(
        "`{key}` changes the model, and {model} does not read it: {meaning}",
        found="{found}{others}",
        suggestion="take or write a model file that reads it: docs/language.md says how",
    ),
    "config.strict": Text(
        "{line}, and --strict takes no such file",
        suggestion="correct the file, or leave --strict out",
    ),
    "config.uncompressed": Text(
        "`{key}` is 1, which means different things in different releases",
        expected="0 for a layer that attends to its window only, 4, or a larger ratio",
        found="1: no compression in some engines, one entry a token in DeepSeek-V4.1, "
        "a compressor of single tokens in the code of DeepSeek-V4",
        suggestion="write 0 if the layer has no compressor weights in the checkpoint",
    ),
    "config.drafts": Text(
        "the drafts of this config come from DSpark, which is not read: `{key}`",
        expected="draft layers that run one after the other, as in the first releases of V4",
        found="{stages} stages that draft a block of tokens",
        suggestion="leave mtp= and the draft entry out: the main model is read",
    ),
    "config.length": Text(
        "`{key}` has the wrong number of entries",
        expected="{expected}",
        found="{found} entries",
    ),
    # Keys against each other
    "config.contradiction": Text(
        "`{first_key}` and `{key}` disagree{where}",
        found="{first} from `{first_key}`, {second} from `{key}`",
        suggestion="correct one of them, or remove it",
    ),
    "config.above": Text(
        "`{key}` is too large",
        expected="at most {limit}, which `{other}` allows",
        found="{found}",
    ),
    "config.divide": Text(
        "`{key}` does not divide `{other}`",
        expected="a divisor of {whole}",
        found="{found}",
    ),
    "config.blocks": Text(
        "`{key}` cuts a block of `{other}`",
        expected="{expected}",
        found="{found}",
    ),
    "config.unequal": Text(
        "`{key}` must be what `{other}` is",
        expected="{expected}",
        found="{found}",
    ),
    "config.unquantized": Text(
        "`{key}` says that weights are quantised, and {model} states BF16 weights only",
        expected="a config.json without `{key}`",
        found="{found}",
        suggestion="take the BF16 release of the model",
    ),
    "config.quantized": Text(
        "`{key}` is not what {model} states about its weights",
        expected="{expected}",
        found="{found}",
        suggestion="take a release that is stored so, or write the format into a model file",
    ),
    "config.quantized_beside": Text(
        "{file} stands beside {config} and says that weights are quantised; it is not read",
        expected="a release whose config.json says how its weights are stored",
        found="{found}",
        suggestion="take a release that is stored as the model file states",
    ),
    "config.rope_key": Text(
        "`{key}` says how positions turn, and is not read",
        expected="the keys of a rope of the kinds default, linear, yarn and llama3",
        suggestion="a model file that reads the key under a name of its config section may use it",
    ),
    "config.odd": Text(
        "`{key}` gives no whole number of channel pairs to rotate",
        expected="an even number of channels, 2 or more",
        found="{found}",
    ),
}
