"""What users are told about number formats and the machines that lack them."""

from supertile.ir.error_texts.text import Text

FORMAT_TEXTS: dict[str, Text] = {
    "format.unknown": Text(
        "the option {option} of the pass legalize-formats names no format of the IR",
        expected="some of {known}",
        found="{found:.100}",
        suggestion="{hint}",
    ),
    "format.target": Text(
        "the pass legalize-formats cannot convert to {to}",
        expected="i8 or bf16, whichever is stored and multiplied; of all formats, {known} are",
        found="to={to}",
        suggestion="give to={other}, or name {to} in the options stored and computed",
    ),
    "format.left": Text(
        "{place}: {op} holds {format}, which is not stored and cannot be converted",
        expected="one of {known}",
        found="{format}",
        suggestion="compile for a machine that stores {format}",
    ),
    "format.product": Text(
        "{place}: {op} multiplies {format}, which is not computed",
        expected="one of {known}, or a format that one of them holds exactly",
        found="{format}",
        suggestion="compile for a machine that multiplies {format}",
    ),
    # supertile list ops
    "format.no_target": Text(
        "list ops --model {model} needs a machine",
        expected="--target T, a machine of `supertile list targets`, or a machine file",
        suggestion="supertile list ops --model {model} --target ascend-910c",
    ),
    "format.missing": Text(
        "{machine} lacks what the model needs: {found}",
        expected="no op that `supertile list ops --model M --target T` calls missing",
    ),
    "format.no_model": Text(
        "--{option} goes with --model",
        expected="supertile list ops --model M --target T",
        suggestion="name a model: --model {known}",
    ),
    "format.no_config": Text(
        "no config is published with {model}",
        expected="--config F, a config.json, its folder, or a shipped name: {known}",
        suggestion="add --config",
    ),
    "format.only_ops": Text(
        "--{option} goes with `list ops` alone",
        found="list {what} --{option}",
        suggestion="supertile list ops --model M --target T",
    ),
    "format.one_op": Text(
        "--show and --{option} cannot be combined",
        suggestion="leave one of them out",
    ),
}
