"""What users are told about a run that is compared with a reference (`run --against`)."""

from supertile.ir.error_texts.text import Text

REFERENCE_TEXTS: dict[str, Text] = {
    # The options
    "reference.alone": Text(
        "--against compares the tokens of --tokens with a file, where {option} has no place",
        expected="--against with --prompt, --chunk and --teacher at most",
        found="{option}",
        suggestion="{hint}",
    ),
    "reference.level": Text(
        "--against compares what every top-k chose, which kernels keep inside",
        expected="--against with --level graph, placed or fused",
        found="--level {found}",
        suggestion="compare at --level fused; compile --check-numerics compares levels",
    ),
    "reference.ranks": Text(
        "--against compares the sequences of all ranks, which no process of a job has",
        expected="one process",
        suggestion="leave the launcher out: --ep runs all ranks in one process",
    ),
    "reference.pinned": Text(
        "{name} is pinned to the reference by --against, so --pin cannot pin it as well",
        suggestion="leave {name} out of the file of --pin",
    ),
    # The file
    "reference.broken": Text(
        "{file} cannot be compared with: {reason}",
        expected="an .npz or .safetensors file of arrays by name",
    ),
    "reference.missing": Text(
        "{file} has no array {name}",
        expected="{wanted}",
        found="{found:.300}",
        suggestion="see 'Compared with a reference' in docs/running.md for all that it holds",
    ),
    "reference.unknown": Text(
        "{file} has an array {name:.100}, which is nothing that this run can be compared by",
        expected="logits, input_ids, and selections of the model with or without .scores",
        suggestion="{hint}",
    ),
    "reference.shape": Text(
        "{name} of {file} has another shape than this run", expected="{wanted}", found="{found}"
    ),
    "reference.dtype": Text(
        "{name} of {file} has another dtype", expected="{wanted}", found="{found}"
    ),
    "reference.tokens": Text(
        "{file} is about other tokens: token {token} of sequence {sequence} differs",
        expected="{wanted}, as --tokens has it",
        found="{found} in {name}",
    ),
    "reference.not_finite": Text(
        "{name} of {file} has {found} at token {token} of sequence {sequence}",
        expected="numbers for every token that is fed",
    ),
    "reference.beyond": Text(
        "{name} of {file} chooses {found} for token {token} of sequence {sequence}",
        expected="{wanted}",
        suggestion="number what is chosen from 0, and choose only what the token may see",
    ),
    "reference.count": Text(
        "{name} of {file} chooses {found} different ones for token {token} of sequence {sequence}",
        expected="{wanted}: as many as the model chooses, of those that the token may see",
        suggestion="fill the rest of a row with -1, where there are fewer",
    ),
    "reference.order": Text(
        "{name} of {file} is not what its scores say at token {token} of sequence {sequence}: "
        "{chosen} was chosen, {better} has a larger score",
        expected="the largest of {name}.scores",
        found="{chosen_score:.9g} chosen, {better_score:.9g} not",
        suggestion="store the scores that the choice was made by, with every bias that it adds",
    ),
    "reference.table": Text(
        "{name} of {file} is not what the table of the checkpoint says at token {token} of "
        "sequence {sequence}",
        expected="{wanted}",
        found="{found}",
        suggestion="use the checkpoint that the reference was made with",
    ),
    # The verdict
    "reference.differs": Text(
        "{count} from {file} by more than a tie",
        expected="the same choices, or ties: a margin of less than {ulps} float32 ulp",
        found="{found}",
        suggestion="{hint}",
    ),
    "reference.error": Text(
        "with the choices of {file}, logits still differ from its logits",
        expected="at most {limit:.0e} at every position",
        found="{found}",
        suggestion="find the first layer that differs: --trace, and --pin what comes before",
    ),
}
