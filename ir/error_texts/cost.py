"""What users are told about costs and about what fits."""

from supertile.ir.error_texts.text import Text

COST_TEXTS: dict[str, Text] = {
    "cost.route": Text(
        "the route {found} is none for {ranks} ranks on {machine}",
        expected="a first hop over {known}, and protocols that the machine file gives for each hop",
        found="{found}",
        suggestion="supertile explain lists the routes of a deployment",
    ),
    "cost.reach": Text(
        "no links of {machine} connect so many devices",
        expected="at most {limit} ranks",
        found="{found}",
    ),
    "cost.memory": Text(
        "the deployment does not fit into the memory of a {unit} of {machine}",
        expected="at most {capacity} on every device",
        found="{found}",
        suggestion="{hint}",
    ),
}
