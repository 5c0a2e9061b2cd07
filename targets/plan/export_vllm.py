"""A policy of vLLM's expert-parallel load balancer that answers with a plan.

vLLM reads no plan file: which experts move where is asked of a policy class, whose interface
differs between versions. The module made here is that class, with the plan in it.
"""

from __future__ import annotations

from collections.abc import Sequence

INTERFACES = ("map", "tensors", "plan")
"""What `rebalance_experts` returns: the map of slots (vLLM 0.33), the map with its inverse and
the replica counts (older), an `EplbPlan` of an `EplbRebalanceContext` (trees not released yet)."""

HEAD = '''\
"""An expert placement as a policy of vLLM's load balancer. Written by Supertile.

Call install() in each process of vLLM before its engine starts, for example from a package's
entry point of the group vllm.general_plugins. A model with other layers or experts than the plan,
such as one that drafts, is left to the policy that was there before.
"""

import torch

EXPERTS = {experts}
RANKS = {ranks}
# The expert in each slot: a line for each layer with experts, the slots of a rank together.
SLOTS = [
{rows}
]


class PlannedPolicy:
    """Answers with the plan, whatever the loads are."""

    before = None

    @classmethod
    def is_planned(cls, layers, experts):
        return (layers, experts) == (len(SLOTS), EXPERTS)

    @classmethod
    def check(cls, num_replicas, num_ranks):
        if (num_replicas, num_ranks) != (len(SLOTS[0]), RANKS):
            raise ValueError(
                f"the plan is for {{len(SLOTS[0])}} slots on {{RANKS}} ranks, "
                f"vLLM has {{num_replicas}} on {{num_ranks}}"
            )
'''

TENSORS_OR_MAP = """
    @classmethod
    def rebalance_experts(
        cls,
        weight,
        num_replicas,
        num_groups,
        num_nodes,
        num_ranks,
        old_global_expert_indices=None,
    ):
        if not cls.is_planned(*weight.shape):
            return cls.others(
                weight,
                num_replicas,
                num_groups,
                num_nodes,
                num_ranks,
                old_global_expert_indices,
            )
        cls.check(num_replicas, num_ranks)
{answer}

    @classmethod
    def others(cls, weight, *arguments):
        if cls.before is None:
            raise ValueError(f"the plan is not for loads of shape {{tuple(weight.shape)}}")
        return cls.before.rebalance_experts(weight, *arguments)
"""

MAP = "        return torch.tensor(SLOTS, dtype=torch.int64)"

TENSORS = """\
        places = [[[] for _ in range(EXPERTS)] for _ in SLOTS]
        for layer, row in enumerate(SLOTS):
            for slot, expert in enumerate(row):
                places[layer][expert].append(slot)
        counts = [[len(slots) for slots in row] for row in places]
        width = max(map(max, counts))
        padded = [[slots + [-1] * (width - len(slots)) for slots in row] for row in places]
        return tuple(torch.tensor(rows, dtype=torch.int64) for rows in (SLOTS, padded, counts))"""

PLAN = """
    @classmethod
    def rebalance_experts(cls, context):
        _, layers, experts = context.load_window_cpu.shape
        if not cls.is_planned(layers, experts):
            if cls.before is None:
                raise ValueError(f"the plan is not for {layers} layers of {experts} experts")
            return cls.before.rebalance_experts(context)
        cls.check(context.num_replicas, RANKS)
        # The class of the answer stands beside that of the question.
        module = sys.modules[type(context).__module__]
        return module.EplbPlan(physical_to_logical_map=torch.tensor(SLOTS, dtype=torch.int64))
"""

TAIL = '''

def install():
    """Make this the default policy of vLLM in this process."""
    from vllm.distributed.eplb.policy import EPLB_POLICIES

    if EPLB_POLICIES["default"] is not PlannedPolicy:
        PlannedPolicy.before = EPLB_POLICIES["default"]
        EPLB_POLICIES["default"] = PlannedPolicy
'''


def policy_module(rows: Sequence[Sequence[int]], experts: int, ranks: int, interface: str) -> str:
    """The module's text; `rows` [L, P] are the experts in the slots."""
    listed = "\n".join(f"    {list(row)}," for row in rows)
    head = HEAD.format(experts=experts, ranks=ranks, rows=listed)
    if interface == "plan":
        return head.replace("import torch", "import sys\n\nimport torch", 1) + PLAN + TAIL
    answers = {"map": MAP, "tensors": TENSORS}
    body = TENSORS_OR_MAP.format(answer=answers[interface])
    return head + body + TAIL
