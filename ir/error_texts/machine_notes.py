"""What users are told about figures of a machine file that may be wrong, in one line each."""

from supertile.ir.error_texts.text import Text

MACHINE_NOTES: dict[str, Text] = {
    # Figures against each other: `found` and `stands` are the two, `times` says how they compare
    "per_clock": Text(
        "`{key}` is {found} on {other}: {times} what a core plausibly does in a clock, "
        "{stands} operations on 16 bits"
    ),
    "wider": Text("`{key}` is {found}, {times} `{other}`, {stands}, whose numbers are narrower"),
    "directions": Text("`{key}` is {found}, {times} `{other}`, {stands}"),
    "inner_slower": Text(
        "`{key}` is {found}, {times} `{other}`, {stands}: outer memories are the slower ones"
    ),
    "overfull": Text("`{key}` is {found}, {times} `{other}`, {stands}, where that comes from"),
    "outer_faster": Text(
        "`{key}` is {found}, {times} `{other}`, {stands}, of the domain inside it"
    ),
    "inner_later": Text("`{key}` is {found}, {times} `{other}`, {stands}, of the domain around it"),
    "ports": Text("`{key}` is {found}, {times} `{other}`, {stands}, which they make up"),
    "late": Text("`{key}` is {found}, {times} `{other}`, {stands}, of its link"),
    "early": Text("`{key}` is {found}, {times} `{other}`, {stands}, of its link"),
    "slow": Text("`{key}` is {found}, {times} `{other}`, {stands}, of its link"),
    "more_cores": Text("`{key}` is {found}, {times} `{other}`, {stands}, all that there are"),
    "neighbours": Text(
        "`{key}` is {found}, {times} that of {other}, {stands}, the nearest of shipped machines"
    ),
    # What the file says and lacks as a whole
    "free": Text("{file}: launches count as free and peaks as reached without {names}"),
    "unread": Text("{file}: no formula reads {names}"),
    "uncosted": Text("{file}: {use} cannot be costed: {names}"),
    "shadowed": Text("{name} is the shipped machine; the file of that name here is ./{name}"),
}
