"""What users are told about deployments."""

from supertile.ir.error_texts.text import Text

DEPLOY_TEXTS: dict[str, Text] = {
    # The text of --deploy
    "deploy.syntax": Text(
        "there is no key here", expected="KEY=VALUE, without spaces in it", found="{found!r:.60}"
    ),
    "deploy.unknown_key": Text(
        "a deployment has no key {key!r:.60}", expected="one of {known}", suggestion="{hint}"
    ),
    "deploy.unsaid": Text(
        "a deployment cannot say `{found:.60}`: {what} are not costed",
        expected="what these keys say: {known}",
    ),
    "deploy.twice": Text("`{key}` is given twice", expected="every key once at most"),
    "deploy.no_value": Text("`{key}` has no value", expected="{key}=VALUE: {expected}"),
    "deploy.value": Text(
        "`{key}` has a wrong value",
        expected="{expected}",
        found="{found!r:.60}",
        suggestion="{hint}",
    ),
    "deploy.no_phase": Text(
        "the deployment does not say which phase it is for",
        expected="phase=prefill or phase=decode",
        suggestion='--deploy "{nearest}"',
    ),
    # Values that do not fit each other
    "deploy.count": Text(
        "`{key}` counts something",
        expected="1 or more",
        found="{found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.phase": Text(
        "`{key}` is for {phase} only",
        expected="`{key}` with phase={phase}",
        found="phase={found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.chunk": Text(
        "the chunk is longer than the prompt",
        expected="at most context={context}",
        found="chunk={found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.world": Text(
        "attention and experts run on the same ranks, but these are not as many",
        expected="tp * dp = ep = {ep}",
        found="tp={tp} dp={dp}, which is {found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.slot_ranks": Text(
        "not every rank gets its slots",
        expected="1 slot or more on each of ep={ep} ranks",
        found="slots on {found} ranks",
        suggestion='--deploy "{nearest}"',
    ),
    # Deployments that the model does not allow
    "deploy.dense": Text(
        "`{key}` places experts, and this {model} is dense: it has none",
        expected="no slots, and ranks given by tp and dp alone",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.heads": Text(
        "the ranks of a group cannot share the model's attention evenly",
        expected="a tp among which {shared} divide",
        found="tp={tp}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.few_slots": Text(
        "there are more experts than slots",
        expected="at least {experts} slots in all, one for each expert of a layer",
        found="{found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.many_slots": Text(
        "a rank has more slots than there are experts, and would hold one twice",
        expected="at most {experts} slots on a rank",
        found="{found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.context": Text(
        "this {model} has fewer positions than the context has tokens",
        expected="at most context={limit} (max_position_embeddings)",
        found="{found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.drafts": Text(
        "a step of this {model} cannot accept so many draft tokens",
        expected="{wanted}",
        found="mtp={found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.reused_drafts": Text(
        "a step of this {model} drafts one token with each of its draft layers, and cannot accept "
        "more: a draft layer that runs several times a step is not costed",
        expected="mtp from 0 to {layers}",
        found="mtp={found}",
    ),
    # Deployments that the machine does not allow
    "deploy.devices": Text(
        "{machine} has fewer devices than the deployment has ranks",
        expected="at most {limit}; a rank is one {unit}",
        found="{found} ranks",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.cache": Text(
        "{machine} cannot store the FP8 part of cached entries",
        expected="cache=bf16",
        found="cache=fp8; it stores {found}",
        suggestion='--deploy "{nearest}"',
    ),
}
