"""What users are told about machine files."""

from supertile.ir.error_texts.text import Text

MACHINE_TEXTS: dict[str, Text] = {
    # Which machine
    "machine.unknown": Text(
        "there is no machine {name!r:.100}",
        expected="one of {known}, or the path of a machine file",
        suggestion="{hint}",
    ),
    # The file
    "machine.absent": Text("{file} does not exist", expected="a machine file"),
    "machine.folder": Text(
        "{file} is a folder",
        expected="a machine file",
        suggestion="name the .toml file inside it",
    ),
    "machine.special_file": Text("{file} is no ordinary file", expected="a machine file"),
    "machine.unreadable": Text("{file} cannot be read: {reason}", expected="a machine file"),
    "machine.huge": Text(
        "{file} is too large for a machine file", expected="at most {limit} bytes"
    ),
    "machine.encoding": Text(
        "{file} is not text",
        expected="TOML in UTF-8",
        found="a byte that is no UTF-8, at position {position}",
    ),
    "machine.empty": Text(
        "{file} is empty",
        expected="a machine file",
        suggestion="see `supertile list targets --show h200` for what one holds",
    ),
    "machine.syntax": Text("this is not TOML", found="{reason}"),
    "machine.nested": Text(
        "{file} nests its tables too deeply", expected="the few levels of a machine file"
    ),
    # Keys
    "machine.unknown_key": Text(
        "{where} has no key {key!r:.100}", expected="one of {known}", suggestion="{hint}"
    ),
    "machine.missing": Text(
        "{names} {verb} missing",
        suggestion='where a figure is not known: {{ value = "unknown", reason = "..." }}',
    ),
    "machine.table": Text("`{key:.100}` is no table", expected="a table", found="{found}"),
    "machine.text": Text(
        "`{key:.100}` is no text", expected="printable text of at least one letter", found="{found}"
    ),
    "machine.list": Text(
        "`{key}` is no list of words", expected='a list such as ["bf16"]', found="{found}"
    ),
    "machine.choice": Text(
        "`{key}` has an unknown value",
        expected="{expected}",
        found="{found}",
        suggestion="{hint}",
    ),
    "machine.name": Text(
        "`{key:.100}` is not a name",
        expected="small letters, digits and _; a machine may have - and ., a source capitals",
        found="{found!r:.100}",
    ),
    # One figure
    "machine.figure": Text(
        "`{key}` is no figure",
        expected='{{ value = 1, unit = "{unit}", source = "...", evidence = "vendor" }}',
        found="{found}",
    ),
    "machine.number": Text(
        "`{key}` is no figure that a machine can have",
        expected='a number above 0, or "unknown"',
        found="{found}",
    ),
    "machine.whole": Text("`{key}` counts something", expected="a whole number", found="{found}"),
    "machine.fraction": Text(
        "`{key}` is a fraction of a peak", expected="a number from 0 to 1", found="{found}"
    ),
    "machine.range": Text(
        "`{key}` is beyond what any machine has", expected="{expected}", found="{found}"
    ),
    "machine.unit": Text(
        "`{key}` is no unit that is known here",
        expected="one of {expected}",
        found="{found:.60}",
        suggestion="{hint}",
    ),
    "machine.dimension": Text(
        "`{key}` is the unit of another quantity",
        expected="one of {expected}",
        found="{found}",
        suggestion="{hint}",
    ),
    "machine.source": Text(
        "`{key}` names no source of this file",
        expected="a name of [sources], then the place in it; one of {known}",
        found="{found:.100}",
        suggestion="{hint}",
    ),
    "machine.note": Text(
        "`{key}` is {evidence} and does not say how",
        expected='note = "..." with the reasoning',
    ),
    # Facts against each other
    "machine.repeated": Text("`{table}` has {what} twice", expected="each once"),
    "machine.no_engine": Text(
        "no engine has the kind {kind}",
        expected="an engine of kind matrix and one of kind vector",
    ),
    "machine.not_stored": Text(
        "`{key}` computes what the machine does not store",
        expected="{holds} in formats.stored, or no rate for {format}",
    ),
    "machine.not_computed": Text(
        "`{key}`: the matrix engine has no rate for {format}", expected="one of {known}"
    ),
    "machine.main_memory": Text(
        "one memory is the main memory: the one without `outer`",
        expected="one memory without `outer`",
        found="{found}",
    ),
    "machine.circle": Text(
        "`{key}` leads around in a circle",
        expected="memories that end at the main memory",
        found="{steps}",
    ),
    "machine.smaller": Text(
        "`{key}` is smaller than `{inner}`", expected="at least {least}", found="{found}"
    ),
    "machine.nest": Text(
        "`{key}` does not nest",
        expected="a multiple of {count} ({inner}), and more than that",
        found="{found}",
        suggestion="list the domains from the innermost to the outermost",
    ),
    "machine.size": Text(
        "the machine's devices are those of none of its domains",
        expected="1, or the size of a domain ({known})",
        found="{found}",
    ),
    "machine.faster": Text(
        "`{key}` is faster than the link of its domain",
        expected="at most {limit}",
        found="{found}",
    ),
    # What a figure is needed for
    "machine.unknown_figure": Text(
        "{needed_by} needs `{name}` of {machine}, which is unknown",
        found="{reason}",
        suggestion="copy the machine file, write the figure and its source there, name the copy",
    ),
    "machine.uncosted": Text(
        "a step on {machine} cannot be costed without {names}: unknown",
        found="{found}",
        suggestion="copy the machine file, write the figures and sources there, name the copy",
    ),
    # What uses it
    "machine.no_tile_memory": Text(
        "{machine} has no memory for tiles",
        expected="a memory of which each core of the matrix engine has one",
        suggestion="give one with `per` set to the name of that engine",
    ),
}
