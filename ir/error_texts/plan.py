"""What users are told about plans: plan files, and what engines cannot load."""

from supertile.ir.error_texts.text import Text

PLAN_TEXTS: dict[str, Text] = {
    "plan.dense": Text(
        "{model} is dense under this config: it has no experts to place",
        expected="a mixture of experts",
    ),
}
