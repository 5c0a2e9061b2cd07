"""What users are told about the command line and the files that it writes."""

from supertile.ir.error_texts.text import Text

COMMAND_TEXTS: dict[str, Text] = {
    # Files that a command writes
    "command.unwritable": Text(
        "{file} cannot be written: {reason}",
        suggestion="name a place that you may write to",
    ),
    "command.full": Text(
        "{file} cannot be written: {reason}",
        suggestion="free space, or name a place elsewhere; what was there before is unchanged",
    ),
    # The command line
    "command.usage": Text("{message}", suggestion="{hint}"),
    "command.unknown": Text(
        "there is no command {name}", expected="one of {known}", suggestion="{hint}"
    ),
    "command.no_model": Text(
        "there is no model file {name}",
        expected="a path, or a shipped model: {known}",
        suggestion="{hint}",
    ),
    "command.no_config": Text(
        "there is no config {name}",
        expected="a path, or a shipped config: {known}",
        suggestion="{hint}",
    ),
    "command.deploy_pipeline": Text(
        "a deployment needs all passes",
        expected="--deploy without --pipeline and --stop-after",
        suggestion="leave out --deploy to look at the IR of some passes",
    ),
    "command.deploy_entry": Text(
        "a step of a deployment calls the entries that it needs",
        expected="--deploy without --entry",
        found="--entry {found:.60}",
        suggestion="leave out --entry; `mtp` in the deployment runs the draft layers too",
    ),
    "command.overlap": Text(
        "only a deployment has communication to hide",
        expected="--overlap beside --deploy",
        found="--overlap {found}",
        suggestion="add --deploy, or leave --overlap out",
    ),
    "command.plan_deploy": Text(
        "the plan {file:.200} is for a deployment, and there is none",
        expected="--deploy beside --plan",
        suggestion="--deploy with the ep of the plan",
    ),
    "command.plan_loads": Text(
        "the plan {file:.200} does not hold the loads that it was made for",
        expected="loads to cost the step under",
        suggestion="--loads with the loads, or plan anew: plans hold them now",
    ),
    "command.loads_deploy": Text(
        "--loads is what a deployment is costed under, and there is none",
        expected="--deploy beside --loads",
        found="--loads {found:.200}",
    ),
    "command.engine_loads": Text(
        "an engine makes a difference under loads of experts, and there are none",
        expected="--loads or --plan beside --engine",
        found="--engine {found:.200}",
    ),
    "command.plan_ranks": Text(
        "the plan {file:.200} is not for this deployment",
        expected="{expected}",
        found="{found}",
        suggestion="plan anew for the deployment, or deploy as the plan says",
    ),
    "command.no_draft": Text(
        "the model file has no entry `draft`, which `mtp` calls",
        expected="no mtp for {model}",
        found="mtp={found}",
        suggestion='--deploy "{nearest}"',
    ),
    "command.level": Text(
        "there is no level {name}", expected="one of {known}", suggestion="{hint}"
    ),
    "command.tiles_level": Text(
        "--tiles is for the levels with tiles",
        expected="--level tiled or scheduled",
        found="--level {found}",
        suggestion="add --level tiled, or leave --tiles out",
    ),
    "command.trace_level": Text(
        "{option} goes by tokens, which tasks of programs do not know",
        expected="{option} with --level graph, placed, fused or tiled",
        found="--level scheduled",
        suggestion="the tasks of the level tiled have the same values",
    ),
    "command.overlap_level": Text(
        "{option} is how tasks of a schedule follow one another",
        expected="{option} with --level scheduled",
        found="--level {found}",
        suggestion="leave {option} out: the other levels have the same numbers without it",
    ),
    "command.stop_after": Text(
        "no pass or phase {name} is run", expected="one of {known}", suggestion="{hint}"
    ),
    "command.explain": Text(
        "nothing of this deployment is called {name}",
        expected="one of {known}",
        suggestion="{hint}",
    ),
    "command.no_such": Text(
        "there is no {what} {name}", expected="one of {known}", suggestion="{hint}"
    ),
    "command.no_pipeline": Text(
        "{file} is no reproducer and no passes are given", suggestion="-p 'canonicalize,cse'"
    ),
    "command.unreadable": Text("{file} cannot be read: {reason}"),
    "command.memory": Text(
        "not enough memory", suggestion="use fewer sequences, a shorter context or smaller chunks"
    ),
    # Comparing numbers
    "command.check_entries": Text(
        "the module names no entries, so its numbers cannot be compared",
        expected="a module that compile or a failed comparison wrote (supertile.entries)",
    ),
    "command.check_size": Text(
        "the module is too large to compare its numbers",
        expected="at most {limit} weights",
        found="{found}",
        suggestion="compile --check-numerics, which makes the model small",
    ),
    "command.check_call": Text(
        "no call fits the sizes of the specialised module: its numbers cannot be compared",
        expected="at most batch x context tokens",
        found="{tokens} tokens for {batch} sequences of {context}",
    ),
    "command.is_folder": Text(
        "{file} is a folder",
        expected="the name of a file to write",
    ),
}
