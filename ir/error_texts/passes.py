"""What users are told about pipelines and passes."""

from supertile.ir.error_texts.text import Text

PASS_TEXTS: dict[str, Text] = {
    "pass.syntax": Text(
        "the pipeline cannot be read here",
        expected="{expected}",
        found="{found:.100}",
        suggestion="a pipeline reads like 'specialize{{tokens=1 batch=8}},cse'",
    ),
    "pass.unknown": Text(
        "there is no pass {name:.100}",
        expected="one of {known}",
        suggestion="{suggestion}",
    ),
    "pass.unknown_option": Text(
        "the pass {name} has no option {option:.100}",
        expected="{known}",
        suggestion="{suggestion}",
    ),
    "pass.option_twice": Text("the option {option:.100} of the pass {name} is given twice"),
    "pass.option_missing": Text(
        "the pass {name} needs the option {option}",
        expected="{expected}",
    ),
    "pass.option_value": Text(
        "the option {option} of the pass {name} cannot have this value",
        expected="{expected}",
        found="{found:.100}",
    ),
    "pass.size_conflict": Text(
        "@{function} already has another size for the axis {axis}",
        expected="{found}, as the function has",
        found="{given}",
        suggestion="specialize the module that has the sizes open",
    ),
    "pass.size_fit": Text(
        "these sizes do not fit the model: {op} at {place}",
        found="{reason}",
        suggestion="try larger sizes; see which sizes the op needs",
    ),
    "pass.level": Text(
        "the pass {name} cannot run on a module of the level {found}",
        expected="a module of the level {levels}",
        suggestion="{hint}",
    ),
    "pass.not_tiled": Text(
        "@{name} has an op outside of kernels: {op}",
        expected="a tiled module",
        suggestion="run choose-tiles and lower-to-tile before build-schedule",
    ),
    "pass.microbatches": Text(
        "the layers @{name} cannot run in two micro-batches",
        found="{reason}",
        suggestion="run overlap-comm{{microbatches=2}} on a module with open sizes",
    ),
    "pass.waves": Text(
        "the experts of @{name} cannot run in waves",
        found="{reason}",
        suggestion="run overlap-comm{{waves=1}}",
    ),
    "pass.no_tiles": Text(
        "@{name} has no tile sizes",
        expected="what choose-tiles leaves on each function",
        suggestion="run choose-tiles before lower-to-tile",
    ),
    "pass.other_tiles": Text(
        "the tile sizes of @{name} were chosen for another function",
        expected="one line of numbers for each phase",
        suggestion="run choose-tiles right before lower-to-tile",
    ),
    "pass.tile_too_large": Text(
        "not even the smallest tile of {name} fits: {place}",
        expected="{memory} to hold {needed} bytes",
        found="{held} bytes",
        suggestion="choose a machine with more on-chip memory, or a model with narrower layers",
    ),
    "pass.memory_full": Text(
        "the tiles of the kernel {name} do not fit: {place}",
        expected="{space} to hold {needed} bytes",
        found="{held} bytes",
        suggestion="give choose-tiles the capacities of this machine, or less",
    ),
}
