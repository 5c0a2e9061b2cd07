"""Runs in exact arithmetic have the same bits on every machine, however the tokens are fed.

The digests were stored once. A change of the models or of the arithmetic changes them on purpose:
`python tests/cases/test_exact_bits.py` prints the new ones.
"""

import hashlib

import numpy as np
import pytest
from case_runs import DATA, TOLERANCE, Array, Model, apart, rows_of, shared_model
from scheduled_runs import tiled
from test_placed import five_rows, run
from xdsl.dialects.builtin import ModuleOp

from supertile.runtime.checkpoint import Checkpoint
from supertile.runtime.generate import Request
from supertile.runtime.plan import plan_module
from supertile.runtime.weights import Weights

DIGESTS = {
    (
        "deepseek_v4",
        "reference",
    ): "3b06229c83f63e88cbaabff2676bb339f1f13af52cd03a93173cc92b373a51fc",
    (
        "deepseek_v4_deployed",
        "deployed",
    ): "5e0063a62029c9ba71946be27420677c1519c28d354033944f2a4936b8160b99",
    (
        "deepseek_v3",
        "reference",
    ): "0f6d41c4e7217ad979751fcdcd67a452ed1a0217b8e4783b2822708cd9ff6eeb",
    ("llama", "reference"): "39e9f008762ee7107096a8fc88f7cb60c7c71b21d40ea0a7ef37cb5469eb748e",
}
FEEDS = {
    "chunks of 7": Request(chunk=7),
    "a prompt, then single tokens": Request(prompt=6, teacher=True),
}


def exact_logits(case: str, numerics: str, request: Request) -> Array:
    shared = shared_model(case, numerics)
    plan = plan_module(shared.module, row_invariant=True)
    return Model(shared.module, plan, shared.weights).run(rows_of(case), request).logits


def digest(logits: Array) -> str:
    """Of the float32 numbers, little-endian, one after the other."""
    flat = np.nan_to_num(np.ascontiguousarray(logits, dtype="<f4"), nan=-1e30)
    return hashlib.sha256(flat.tobytes()).hexdigest()


@pytest.mark.parametrize("case, numerics", DIGESTS)
def test_logits_have_the_bits_of_every_machine_and_every_feed(case, numerics):
    logits = exact_logits(case, numerics, Request())
    assert digest(logits) == DIGESTS[case, numerics]
    for name, request in FEEDS.items():
        if numerics == "deployed" and request.teacher:
            continue  # the same ops in the same way, many times slower
        assert exact_logits(case, numerics, request).tobytes() == logits.tobytes(), name


@pytest.mark.parametrize("case", ["deepseek_v4", "deepseek_v3"])
def test_kernels_have_the_same_bits_on_ranks_in_any_order(case):
    """With the same tiles."""
    rows = [row[:7] for row in five_rows(case)]
    whole = exact_model(case, tiled(case)).run(rows, Request()).logits
    turned = exact_model(case, tiled(case)).run(rows[::-1], Request()).logits[::-1]
    assert turned.tobytes() == whole.tobytes()
    two = run(exact_model(case, tiled(case, ranks=2)), rows, Request()).logits
    assert two.tobytes() == whole.tobytes()
    usual = shared_model(case).run(rows, Request()).logits
    assert apart(whole, usual) < TOLERANCE


def exact_model(case: str, module: ModuleOp) -> Model:
    plan = plan_module(module, row_invariant=True)
    return Model(module, plan, Weights(Checkpoint(DATA / case), plan, list(plan.entries)))


if __name__ == "__main__":
    for key in DIGESTS:
        print(f'    {key!r}: "{digest(exact_logits(*key, Request()))}",'.replace("'", '"'))
