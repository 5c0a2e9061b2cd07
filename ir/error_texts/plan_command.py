"""What users are told about the options of `supertile plan`."""

from __future__ import annotations

from supertile.ir.error_texts.text import Text

PLAN_COMMAND_TEXTS: dict[str, Text] = {
    "plan.no_deploy": Text(
        "a plan is made for a deployment",
        expected="--deploy, or --sweep for many points",
        suggestion='--deploy "phase=decode ep=64 batch=64 slots=512"',
    ),
    "plan.moves_alone": Text(
        "--moves counts from a plan in use",
        expected="--current plan.json beside it",
        suggestion="name the plan in use with --current, or leave --moves out",
    ),
    "plan.tokens_alone": Text(
        "token ids alone do not say which experts they go to",
        expected="--weights beside --tokens: a checkpoint has the tables of hash-routed layers",
        suggestion="add --weights DIR, or leave --tokens out",
    ),
    "plan.current": Text(
        "the plan in use is not for this deployment",
        expected="{expected}",
        found="{found}",
        suggestion="plan for the same ranks, slots and model, or leave --current out",
    ),
    "current.unknown": Text(
        "{file} is no placement in a form that is known",
        expected="plan.json, or a file of SGLang (physical_to_logical_map), vllm-ascend "
        "(layer_list), TensorRT-LLM (initial_global_assignments) or vLLM (a map, or Supertile's "
        "policy)",
        found="{found}",
    ),
    "current.yaml": Text("{file} is not YAML that can be read", found="{reason}"),
    "current.value": Text(
        "`{key}` of the placement in use is wrong in {file}",
        expected="{expected}",
        found="{found}",
        suggestion="name the file for this model and these ranks",
    ),
    "plan.redundancy": Text(
        "--redundancy is no number of slots and no memory",
        expected="slots in all, such as 32, or bytes of each rank, such as 2GB",
        found="{found!r:.60}",
    ),
    "plan.redundancy_memory": Text(
        "the memory for redundancy holds no expert",
        expected="{needed} or more: an expert of all layers",
        found="{found:.60}",
    ),
    "plan.redundancy_slots": Text(
        "the deployment says already how many slots there are",
        expected="slots in --deploy, or --redundancy",
        found="both, --redundancy {found:.60}",
        suggestion="leave one of them out",
    ),
    "plan.export_folder": Text(
        "exports are files",
        expected="--output DIR beside --export {engines}",
        suggestion="add -o out",
    ),
    "loads.no_hashed": Text(
        "no layer of {model} is routed by token id: its loads do not follow from token ids alone",
        suggestion="leave --tokens out",
    ),
    "loads.no_tables": Text(
        "the checkpoint has no table of token ids",
        expected="a tensor {name}, as of layers that are routed by token id",
        suggestion="leave --tokens out",
    ),
    "plan.sweep": Text(
        "--sweep cannot be read",
        expected="ep=N,N.. and batch=N,N.., whole numbers from 1, at most 10,000 points",
        found="{found!r:.80}",
        suggestion='--sweep "ep=8,64,384,8192 batch=1,16,64,256"',
    ),
    "plan.sweep_option": Text(
        "{option} is for one plan, and --sweep costs many points without plans",
        expected="--sweep without {option}",
        suggestion="leave {option} out, or plan without --sweep",
    ),
}
