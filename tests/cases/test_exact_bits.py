"""Runs in exact arithmetic have the same bits on every machine, however the tokens are fed.

The digests were stored once. A change of the models or of the arithmetic changes them on purpose:
`python tests/cases/test_exact_bits.py` prints the new ones.
"""

import hashlib

import numpy as np
import pytest
from case_runs import Array, Model, rows_of, shared_model

from supertile.runtime.generate import Request
from supertile.runtime.plan import plan_module

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
        assert exact_logits(case, numerics, request).tobytes() == logits.tobytes(), name


if __name__ == "__main__":
    for key in DIGESTS:
        print(f'    {key!r}: "{digest(exact_logits(*key, Request()))}",'.replace("'", '"'))
