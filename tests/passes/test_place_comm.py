"""Routes on transfers: what the pass writes, and that no number follows from it."""

import numpy as np
import pytest
from pass_checks import check_kept, module_of, text_of
from test_plan_experts import PLAIN, SENT_COMBINE, sent, snippet

from supertile.ir import comm
from supertile.ir.errors import UserError
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import parse_pipeline
from supertile.runtime.comm_ops import FUNCTIONS
from supertile.runtime.plan import call_properties

SENT = snippet(sent(), "%p = graph.silu %r : (tensor<?x8xf32>) -> tensor<?x8xf32>", SENT_COMBINE)
TO, BACK = "direct over node by fused, deduplicated", "hierarchical over pod by rdma, node by dma"
PLACE = f'place-comm{{dispatch="{TO}" combine="{BACK}"}}'


def placed(pipeline: str):
    module = module_of(SENT)
    report = run_passes(module, parse_pipeline(pipeline))
    return module, report


def routes(module) -> list[str | None]:
    found = [op for op in module.walk() if isinstance(op, comm.Dispatch | comm.Combine)]
    return [None if op.route is None else str(op.route.route) for op in found]


def test_every_transfer_gets_its_route():
    module, report = placed(PLACE)
    assert routes(module) == [TO, BACK]
    assert report.passes[0].patterns == {"place transfer": 2}
    assert f"#comm.route<{TO}>" in text_of(module)


def test_one_direction_alone():
    assert routes(placed(f'place-comm{{combine="{TO}"}}')[0]) == [None, TO]


def test_a_second_time_changes_nothing():
    _, report = placed(f"{PLACE},{PLACE}")
    assert not report.passes[1].changed


def test_without_options_nothing_is_written():
    check_kept(SENT, "place-comm")
    check_kept(PLAIN, PLACE)


def test_a_text_that_is_no_route():
    with pytest.raises(UserError, match="the option combine of place-comm is no route") as caught:
        placed("place-comm{combine=direct}")
    assert caught.value.code == "placement.route"


def test_functions_are_called_without_the_route():
    module, _ = placed(PLACE)
    op = next(op for op in module.walk() if isinstance(op, comm.Dispatch))
    assert set(call_properties(op)) == {"placement"}
    chosen = [np.array([[0, 3]]), np.array([[1, 2]]), np.array([[3, 0]])]
    tokens = [np.full((1, 8), rank, np.float32) for rank in range(3)]
    weights = [np.ones((1, 2), np.float32)] * 3
    results = FUNCTIONS[comm.Dispatch](tokens, chosen, weights, op.placement.placement)
    assert [rows[:, 0].tolist() for rows, *_ in results] == [[0, 2, 0, 2], [1], [1]]
