"""What users are told about files that name the tensors of a model."""

from supertile.ir.error_texts.text import Text

NAMES_TEXTS: dict[str, Text] = {
    "names.folder": Text("{file} is a folder", expected="a file of names of tensors"),
    "names.absent": Text("{file} does not exist", expected="a file of names of tensors"),
    "names.unreadable": Text("{file} cannot be read: {reason}"),
    "names.huge": Text("{file} is too large", expected="at most {limit} bytes"),
    "names.encoding": Text(
        "{file} is not text", expected="UTF-8", found="a byte that is no UTF-8, at {position}"
    ),
    "names.empty": Text("{file} is empty", expected='tables like ["saved by transformers"]'),
    "names.syntax": Text("{file} is no TOML: {reason}"),
    "names.row": Text(
        "the row {name!r:.100} of {dialect!r:.100} in {file} names no tensor",
        expected="a name, with [{{e}}] where experts are an axis, with 1/2 or 2/2 for a half",
        found="{found}",
    ),
}
