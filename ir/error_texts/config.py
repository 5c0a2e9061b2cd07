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
        "the key `{key}` is missing",
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
    "config.family": Text(
        "`{key}` names a model family that cannot be read",
        expected="{known}",
        found="{found}",
        suggestion="{hint}",
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
    "config.quantized": Text(
        "`{key}` says that weights are quantised, and {family} is read in BF16 only",
        expected="a config.json without `{key}`",
        suggestion="take the BF16 release of the model",
    ),
    "config.odd": Text(
        "`{key}` gives no whole number of channel pairs to rotate",
        expected="an even number of channels, 2 or more",
        found="{found}",
    ),
}
