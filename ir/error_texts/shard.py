"""What users are told about splitting attention and feed-forward layers over ranks."""

from supertile.ir.error_texts.text import Text

SHARD_TEXTS: dict[str, Text] = {
    "shard.heads": Text(
        "the attention at {place} cannot be split over {ranks} ranks: of its {heads} key-value "
        "heads each rank needs equally many, or equally many ranks one",
        expected="a number of ranks that divides the heads, or a multiple of them",
        found="{ranks} ranks",
        suggestion="tp={limit}",
    ),
    "shard.blocked": Text(
        "the attention at {place} cannot be split by heads: {op} at {at} needs all of them",
        expected="ops that treat heads apart, up to a product that sums over them",
        suggestion="run it with tp=1",
    ),
    "shard.slices": Text(
        "{name} at {place} cannot be cut into {parts} equal slices of whole blocks that have one "
        "scale each",
        expected="a number of ranks that cuts {size} evenly, between blocks",
        found="{parts} ranks",
        suggestion="tp={limit}, the most that works for the layer",
    ),
    "shard.states": Text(
        "the layers at {place} cannot be split: some cut a state that others keep whole",
        expected="layers that share a state and use it alike",
        suggestion="run it with tp=1",
    ),
}
