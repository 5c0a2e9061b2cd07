"""What users are told about plans: plan files, and what engines cannot load."""

from supertile.ir.error_texts.text import Text

PLAN_TEXTS: dict[str, Text] = {
    "plan.dense": Text(
        "{model} is dense under this config: it has no experts to place",
        expected="a mixture of experts",
    ),
    # The file
    "plan.absent": Text("{file} does not exist", expected="a plan file"),
    "plan.folder": Text(
        "{file} is a folder", expected="a plan file", suggestion="name the plan.json inside it"
    ),
    "plan.special_file": Text("{file} is no ordinary file", expected="a plan file"),
    "plan.unreadable": Text("{file:.300} cannot be read: {reason}", expected="a plan file"),
    "plan.huge": Text("{file} is too large for a plan file", expected="at most {limit} bytes"),
    "plan.encoding": Text(
        "{file} is not text",
        expected="JSON in UTF-8",
        found="a byte that is no UTF-8, at position {position}",
    ),
    "plan.empty": Text("{file} is empty", expected="a plan file", suggestion="plan again"),
    # The JSON
    "plan.syntax": Text(
        "this is not JSON", found="{reason}", suggestion="the file may be cut short: copy it again"
    ),
    "plan.nested": Text(
        "{file} nests its lists and objects too deeply", expected="the few levels of a plan file"
    ),
    "plan.duplicate": Text(
        "the key {key} stands twice in one object", suggestion="remove one of the two"
    ),
    "plan.constant": Text(
        "{found} is not a number that a plan can hold",
        expected="a finite number, integers with at most {digits} digits",
    ),
    # Its values
    "plan.format": Text(
        "{file} is no plan file",
        expected='"format": "{expected}"',
        found="{found}",
        suggestion="files of serving engines are written from plans, and not read as plans",
    ),
    "plan.version": Text(
        "{file} has another version of the format",
        expected="version {expected}",
        found="{found}",
        suggestion="read it with the version of Supertile that wrote it, or plan again",
    ),
    "plan.unknown_key": Text(
        "`{key}` is no key of a plan", expected="one of {known}", suggestion="{hint}"
    ),
    "plan.missing": Text("`{key}` lacks the key `{name}`", expected="`{name}` in this object"),
    "plan.value": Text("`{key}` is wrong", expected="{expected}", found="{found}"),
    "plan.figure": Text(
        "`{key}` contradicts the rest of the plan",
        expected="{expected}",
        found="{found}",
        suggestion="plan again: figures of a plan are not for changing",
    ),
    # What it was made for
    "plan.other_use": Text(
        "the plan {file:.200} was made for another {what}",
        expected="a plan for {expected}",
        found="a plan for {found}",
        suggestion="plan anew, or take it as it is with --allow-other-plan",
    ),
    "plan.other_model": Text(
        "the plan {file:.200} does not fit the layers and experts of the model",
        expected="a plan of {expected}",
        found="a plan of {found}",
        suggestion="plan anew for this model",
    ),
    # Slots and shares
    "plan.expert": Text(
        "`{key}` is no expert", expected="an expert from 0 to {limit}, or -1: idle", found="{found}"
    ),
    "plan.no_slot": Text(
        "`{key}` does not hold every expert",
        expected="a slot for each expert",
        found="no slot for expert {found}",
    ),
    "plan.twice": Text(
        "`{key}` holds an expert that rank {rank} has already",
        expected="an expert once on a rank",
        found="expert {found} again",
    ),
    "plan.not_equal": Text(
        "`{key}` is no equal share", expected="one part in as many as the expert has replicas"
    ),
    "plan.share": Text(
        "`{key}` is no share", expected="whole parts of {limit}, from 0 to all of them"
    ),
    "plan.idle_share": Text("`{key}` gives tokens to an idle slot", expected="0"),
    "plan.share_sum": Text(
        "`{key}` does not share out expert {expert}",
        expected="parts that add up to {limit}",
        found="{found}",
    ),
    # Files of serving engines
    "plan.interface": Text(
        "there is no such interface of vLLM",
        expected="{expected}, for the engine vllm alone",
        found="{found!r:.60}",
        suggestion="{hint}",
    ),
    "plan.export_suffix": Text(
        "{engine} loads no file that is called {file:.300}",
        expected="a name that ends with {expected}",
        found="{found}",
    ),
    "plan.export_uneven": Text(
        "{engine} wants the same number of slots on each rank",
        expected="equal ranks",
        found="{found}",
        suggestion="plan with slots={more}/rank",
    ),
    "plan.export_idle": Text(
        "{engine} cannot leave a slot idle",
        expected="an expert in each slot",
        found="idle slots: {found}",
        suggestion="plan with fewer slots, so that no rank has more than there are experts",
    ),
    "plan.export_dense": Text(
        "the map of vLLM's pull request {number} has rows of experts for every layer",
        expected="a model whose layers all have experts",
        found="{found} dense layers",
        suggestion="export for the interface pr49572, or the policy",
    ),
    "plan.export_redundant": Text(
        "{engine} refuses a model with so many replicas",
        expected="at most {limit} slots more than experts",
        found="{found}",
        suggestion="plan for fewer slots, or several groups of fewer ranks",
    ),
}
