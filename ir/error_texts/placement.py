"""What users are told about placing experts."""

from supertile.ir.error_texts.text import Text

PLACEMENT_TEXTS: dict[str, Text] = {
    "placement.ranks": Text(
        "experts are placed on ranks", expected="1 to {limit} ranks", found="{found}"
    ),
    "placement.dense": Text(
        "{model} is dense under this config: it has no experts to place",
        expected="a mixture of experts",
        suggestion="run it without --ep, --slots and --plan",
    ),
    "placement.unlike_experts": Text(
        "layers have experts of different sizes: those of {function} differ in {size}",
        expected="experts of one size in all layers: {size} of {expected}",
        found="{found}",
    ),
    "placement.unlike_kernels": Text(
        "layers compute their experts by different ops: those of {function} are not those of the "
        "first layer with experts",
        expected="experts of one form in all layers: their time is that of one kind of kernels",
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
    "placement.plan_file": Text(
        "{file} holds no plan of experts",
        expected="IR text of a module with the attribute comm.plan",
        found="a module without it",
    ),
    "placement.plan_ranks": Text(
        "the plan places experts on another number of ranks",
        expected="a plan for {ranks} ranks",
        found="a plan for {found}",
        suggestion="ranks={found} (--ep {found}), or another plan",
    ),
    "placement.plan_experts": Text(
        "the plan places another number of experts",
        expected="a plan of {experts} experts, as many as the model has in a layer",
        found="{found}",
    ),
    "placement.plan_layers": Text(
        "the plan does not fit the layers of the model that have experts",
        expected="placements for {layers}",
        found="a plan that {found}",
    ),
    "placement.plan_slots": Text(
        "a plan says already which rank has how many slots",
        expected="a plan or slots",
        found="both",
        suggestion="leave slots out",
    ),
    "placement.route": Text(
        "the option {option} of place-comm is no route",
        expected="{form}",
        found="{found}",
        suggestion="direct over supernode by fused",
    ),
    "placement.weights": Text(
        "the experts at {place} cannot be placed: {op} is between their weights and their product",
        expected="weights of the checkpoint, one tensor an expert, or such weights converted",
        suggestion="compile without the pass plan-experts",
    ),
}
