"""A made-up timeline of the size and shape of a real one: 5 programs of 50 tasks, 61 layers.

The numbers are invented, though of the order of DeepSeek-V4 decoding on an Ascend 910C die.
"""

import itertools
from dataclasses import dataclass, field, replace

from supertile.targets.timeline import FigureUse, MemoryUse, Program, Task, Timeline

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'"
FIGURES = {
    "engines.cube.rate.bf16": ("353.9 TFLOP/s", "MSM", "vendor"),
    "engines.cube.rate.i8": ("752 TOP/s", "CM384 Table 3", "vendor"),
    "engines.vector.rate.f32": ("11 TFLOP/s", "MSM", "vendor"),
    "memories.hbm.read": ("1.6 TB/s", "CM384 section 3", "vendor"),
    "memories.l2.read": ("4752 GB/s", "INI", "derived"),
    "domains.supernode.protocols.load_store.write_bandwidth": (
        "135 GB/s",
        "CM384 Table 1",
        "measured",
    ),
    "domains.supernode.protocols.load_store.write_latency": ("2.1 us", "CM384 Table 1", "measured"),
    "parameters.memory_fraction": ("0.84", "chosen after MLA decode", "assumed"),
    "parameters.launch_matrix": ("5 us", "MSM", "assumed"),
    "parameters.matrix_fraction": ("0.7", "MSM", "assumed"),
}
BOUND_FIGURES = {
    "cube": ("engines.cube.rate.i8", "parameters.matrix_fraction", "parameters.launch_matrix"),
    "vector": ("engines.vector.rate.f32", "parameters.launch_matrix"),
    "hbm": ("memories.hbm.read", "parameters.memory_fraction", "parameters.launch_matrix"),
    "l2": ("memories.l2.read", "parameters.launch_matrix"),
    "launch": ("parameters.launch_matrix",),
    "supernode": tuple(path for path in FIGURES if path.startswith("domains.")),
}
# name, kind, bound, microseconds without launch, GFLOP, MB of HBM
LAYER = (
    ("mhc_collect", "hyper", "vector", 6.2, 0.02, 2.1),
    ("attn_norm", "norm", "launch", 1.1, 0.004, 0.9),
    ("wq_a", "linear", "hbm", 8.4, 2.1, 11.6),
    ("q_norm", "norm", "launch", 0.8, 0.002, 0.3),
    ("wq_b", "linear", "hbm", 41.0, 19.3, 56.0),
    ("rope_q", "rope", "vector", 3.9, 0.03, 4.0),
    ("wkv", "linear", "hbm", 4.8, 0.7, 5.2),
    ("kv_norm", "norm", "launch", 0.7, 0.001, 0.2),
    ("compress", "pool", "l2", 5.5, 0.05, 3.1),
    ("indexer_q", "linear", "hbm", 12.2, 4.9, 16.8),
    ("indexer_score", "indexer", "cube", 38.0, 18.0, 25.0),
    ("indexer_top_k", "top_k", "vector", 19.5, 0.4, 6.0),
    ("attend", "attention", "cube", 88.0, 42.0, 71.0),
    ("wo_a", "linear", "hbm", 33.0, 15.0, 46.0),
    ("wo_b", "linear", "hbm", 26.0, 11.0, 36.0),
    ("mhc_spread", "hyper", "vector", 6.4, 0.02, 2.1),
    ("ffn_norm", "norm", "launch", 1.1, 0.004, 0.9),
    ("gate", "linear", "launch", 2.6, 0.3, 2.9),
    ("route", "top_k", "vector", 7.7, 0.1, 0.5),
    ("quantize_rows", "quantize", "vector", 5.1, 0.03, 3.3),
    ("dispatch", "communication", "supernode", 71.0, 0.0, 0.0),
    ("shared_expert", "experts", "hbm", 46.0, 21.0, 64.0),
    ("experts", "experts", "cube", 66.0, 40.0, 66.0),
    ("combine", "communication", "supernode", 118.0, 0.0, 0.0),
    ("mhc_spread_ffn", "hyper", "vector", 6.4, 0.02, 2.1),
)
STAGES = (0, 20, 21, 23, 24, 25)
"""Where a microbatch hands over to the other: before and after dispatch and combine."""
OTHER_LANE = {"dispatch", "combine"}
WIRE_MB = {"dispatch": 8.2, "combine": 15.4}
LAUNCH = 2.0


@dataclass
class Builder:
    """Puts tasks on lanes as early as their lane and what they wait for allow."""

    tasks: list[Task] = field(default_factory=list)
    free: dict[str, float] = field(default_factory=dict)

    def add(self, row: tuple[str, str, str, float, float, float], scale: float, waits: list[int]):
        name, kind, bound, micros, gflop, mbytes = row
        lane = "supernode" if name in OTHER_LANE else "compute"
        launch = LAUNCH if lane == "compute" else 0.0
        needed = micros * scale * 1e-6
        duration = needed + launch * 1e-6
        ends = [self.tasks[number].end for number in waits]
        start = max([self.free.get(lane, 0.0), *ends])
        self.free[lane] = start + duration
        busy = {bound: needed} if bound != "launch" else {"vector": needed}
        busy |= {"hbm": 0.6 * needed} if bound in ("cube", "vector") else {}
        busy |= {"cube": 0.3 * needed} if bound == "hbm" else {}
        busy |= {"vector": 0.4 * needed} if lane == "supernode" else {}
        self.tasks.append(
            Task(
                name=name,
                kind=kind,
                lane=lane,
                start=start,
                duration=duration,
                waits=tuple(waits),
                busy=busy,
                launch=launch * 1e-6,
                bound=bound,
                flops=gflop * scale * 1e9,
                bytes={"hbm": mbytes * scale * 1e6, "l2": 1.7 * mbytes * scale * 1e6},
                wire_bytes=WIRE_MB.get(name, 0.0) * scale * 1e6,
                messages=1075.0 * scale if lane == "supernode" else 0.0,
                formula=f"launch + max({bound}, ...) = {launch} us + {micros * scale:.1f} us",
                figures=BOUND_FIGURES[bound],
                source=f"deepseek_v4.st:{100 + len(self.tasks)}",
            )
        )
        return len(self.tasks) - 1


def layer(name: str, scale: float) -> Program:
    """Two microbatches; one computes while the other communicates."""
    builder = Builder()
    last: list[list[int]] = [[], []]
    for first, end in itertools.pairwise(STAGES):
        for batch in (0, 1):
            for row in LAYER[first:end]:
                last[batch] = [builder.add(row, scale, last[batch])]
    order = sorted(range(len(builder.tasks)), key=lambda number: builder.tasks[number].start)
    places = {old: new for new, old in enumerate(order)}
    tasks = [
        replace(task, waits=tuple(places[number] for number in task.waits))
        for task in (builder.tasks[old] for old in order)
    ]
    return Program(name, tuple(tasks))


def example(**changes: object) -> Timeline:
    """The timeline, with the fields of `changes` replaced."""
    layers = 2 * [("window_layer", 1)] + 29 * [("csa_layer", 1), ("hca_layer", 1)]
    timeline = Timeline(
        model="DeepSeek-V4-Pro",
        config="deepseek_v4_pro",
        machine="ascend-910c",
        device_unit="die",
        deployment="phase=decode ep=384 tp=1 dp=384 batch=96 context=4096 cache=bf16",
        phase="decode",
        ranks=384,
        programs=(
            layer("embed", 0.02),
            layer("window_layer", 0.55),
            layer("csa_layer", 0.5),
            layer("hca_layer", 0.42),
            layer("head", 0.8),
        ),
        order=(("embed", 1), *layers, ("hca_layer", 1), ("head", 1)),
        memory=MemoryUse(
            (("weights", 21.4e9), ("main cache", 18.2e9), ("indexer cache", 3.9e9), ("other", 3e9)),
            62e9,
        ),
        figures=tuple(
            FigureUse(path, *about, share)
            for (path, about), share in zip(
                FIGURES.items(),
                (0, 0.28, 0.11, 0.33, 0.02, 0.19, 0.04, 0.33, 0.24, 0.28),
                strict=True,
            )
        ),
        summary={
            "step_ms": 33.89,
            "time_per_output_token_ms": 21.52,
            "time_to_first_token_ms": None,
            "tokens_per_second_per_device": 4461.0,
            "exposed_communication_ms": 3.1,
            "launches_per_layer": {"csa_layer": 50, "hca_layer": 50},
            "memory_bytes_by_purpose": {"weights": 21.4e9, "main cache": 18.2e9},
            "evidence": "partly verified",
        },
        definitions={
            "step_ms": "Milliseconds from the start of one decoding step to the start of the next.",
            "time_per_output_token_ms": "Milliseconds for each accepted token of one sequence.",
            "time_to_first_token_ms": "Milliseconds from the prompt to its first token.",
            "tokens_per_second_per_device": "Accepted tokens a second, per die (half a package).",
            "exposed_communication_ms": "Milliseconds of a step on which only links are busy.",
            "launches_per_layer": "Kernels launched in one layer of each kind.",
            "memory_bytes_by_purpose": "Bytes of device memory by purpose.",
            "evidence": "The weakest evidence among figures behind 5 % of the step or more.",
        },
        notes=("Routing is balanced.", "L2 bandwidth is not measured; the platform file gives it."),
    )
    return replace(timeline, **changes)


def small(**changes: object) -> Timeline:
    """Two kernels and a transfer between them, half of it hidden, in whole microseconds."""
    tasks = (
        task("first", "compute", 0, 10, bound="hbm"),
        task("send", "link", 10, 8, waits=(0,), bound="link"),
        task("second", "compute", 10, 4, waits=(0,), bound="cube"),
        task("third", "compute", 18, 2, waits=(1, 2), bound="launch"),
    )
    program = Program("layer", tasks)
    changes = {"programs": (program,), "order": (("layer", 3),), **changes}
    return example(**changes)


def task(name: str, lane: str, start: int, duration: int, **changes: object) -> Task:
    """A task by microseconds."""
    return Task(
        **{
            "name": name,
            "kind": "linear",
            "lane": lane,
            "start": start * 1e-6,
            "duration": duration * 1e-6,
            "waits": (),
            **changes,
        }
    )
