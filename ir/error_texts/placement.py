"""What users are told about placing experts."""

from supertile.ir.error_texts.text import Text

PLACEMENT_TEXTS: dict[str, Text] = {
    "placement.ranks": Text(
        "experts are placed on ranks", expected="1 to {limit} ranks", found="{found}"
    ),
    "placement.dense": Text(
        "{model} is dense under this config: it has no experts to place",
        expected="a mixture of experts",
        suggestion="run it without --ep and --slots",
    ),
    "placement.slot_ranks": Text(
        "not every rank gets its slots",
        expected="one number for all ranks, or one of 1 or more for each of {ranks} ranks",
        found="{found}",
        suggestion="slots={nearest}",
    ),
    "placement.few_slots": Text(
        "there are more experts than slots",
        expected="at least {experts} slots in all, one for each expert of a layer",
        found="{found}",
        suggestion="slots={nearest}",
    ),
    "placement.weights": Text(
        "the experts at {place} cannot be placed: {op} is between their weights and their product",
        expected="weights of the checkpoint, one tensor an expert, or such weights converted",
        suggestion="compile without the pass plan-experts",
    ),
}
