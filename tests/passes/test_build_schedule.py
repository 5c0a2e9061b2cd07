"""Functions to programs: edges, their reduction, and bytes; each rule on graphs and by hand."""

from itertools import combinations

import pytest
from hypothesis import given, settings, strategies as st

from supertile.ir import sched
from supertile.ir.errors import UserError
from supertile.ir.graph import scaled_type
from supertile.ir.sched_bounds import Bounds
from supertile.ir.sched_memory import device_bytes, runtime_bytes
from supertile.ir.text import HEADER, context, parse_module, print_module
from supertile.ir.types import DYNAMIC, bf16, f4e2m1, f8e4m3, i64, tensor
from supertile.ir.verify import verify_module
from supertile.passes.build_schedule import BuildSchedule
from supertile.passes.choose_tiles import ChooseTiles
from supertile.passes.instruments import fill_locations
from supertile.passes.lower_to_tile import LowerToTile
from supertile.passes.schedule_edges import COMPUTE, LINK, Step, ancestors, data_edges, reduced
from supertile.passes.schedule_memory import ALIGNMENT, aligned, plan_arena, spans_of

quick = settings(max_examples=60, deadline=None)

# ---- edges -------------------------------------------------------------------------------------


def edges_of(*accesses):
    """Edges of steps given as "ab>c": a and b are read, c is written."""
    steps = [Step(list(text.split(">")[0]), list(text.split(">")[1])) for text in accesses]
    return [sorted(own) for own in reduced(data_edges(steps))]


def test_readers_wait_for_the_writer():
    assert edges_of(">a", "a>b", "a>c") == [[], [0], [0]]


def test_readers_do_not_wait_for_each_other_and_writers_wait_for_readers():
    assert edges_of(">a", "a>b", "a>c", ">a") == [[], [0], [0], [1, 2]]


def test_writers_wait_for_writers():
    assert edges_of(">a", ">a") == [[], [0]]


def test_what_is_only_read_orders_nothing():
    assert edges_of("a>b", "a>c") == [[], []]


def test_edges_that_others_imply_go():
    """The last reads both: the second already waits for the first."""
    assert edges_of(">a", "a>b", "ab>c") == [[], [0], [1]]


@st.composite
def step_lists(draw):
    """Steps that each write a buffer of their own, and read buffers of steps before; some write
    one state too; some are transfers."""
    steps = []
    for number in range(draw(st.integers(1, 9))):
        reads = draw(st.lists(st.integers(0, number - 1), unique=True)) if number else []
        state = ["state"] if draw(st.booleans()) else []
        lane = draw(st.sampled_from([COMPUTE, COMPUTE, LINK]))
        steps.append(Step([*reads, *state], [number, *state], lane))
    return steps


@quick
@given(step_lists())
def test_every_edge_that_is_kept_is_needed(steps):
    edges = data_edges(steps)
    kept = [set(own) for own in reduced(edges)]
    assert ancestors(kept) == ancestors(edges)
    for number, own in enumerate(kept):
        for before in own:
            fewer = [*kept[:number], own - {before}, *kept[number + 1 :]]
            assert ancestors(fewer) != ancestors(edges)


# ---- bytes -------------------------------------------------------------------------------------


def planned(steps, sizes):
    spans = spans_of(steps, sizes)
    return spans, plan_arena(steps, data_edges(steps), spans)


@quick
@given(step_lists(), st.data())
def test_buffers_that_meet_have_bytes_of_their_own(steps, data):
    sizes = {n: data.draw(st.integers(0, 1000)) for n in range(len(steps))}
    spans, arena = planned(steps, sizes)
    edges = [set(own) for own in data_edges(steps)]
    for before, after in arena.edges:
        edges[after].add(before)
    order = ancestors(edges)
    for first, second in combinations(spans, 2):
        a, b = arena.offsets[first.root], arena.offsets[second.root]
        if a < b + second.size and b < a + first.size:
            assert all(order[second.users[0]] >> user & 1 for user in first.users)
    assert arena.live <= arena.size <= sum(aligned(size) for size in sizes.values())
    assert all(start % ALIGNMENT == 0 for start in arena.offsets.values())


@quick
@given(step_lists())
def test_sharing_bytes_moves_no_transfer(steps):
    """What comes before and behind each transfer is the same as for data alone."""
    _, arena = planned(steps, dict.fromkeys(range(len(steps)), 100))
    plain = data_edges(steps)
    edges = [set(own) for own in plain]
    for before, after in arena.edges:
        edges[after].add(before)
    plain, shared = ancestors(plain), ancestors(edges)
    for number, step in enumerate(steps):
        if step.lane == LINK:
            assert plain[number] == shared[number]
            for other in range(len(steps)):
                assert plain[other] >> number & 1 == shared[other] >> number & 1


def test_a_chain_needs_two_buffers():
    steps = [Step([], [0]), *(Step([n - 1], [n]) for n in range(1, 6))]
    _, arena = planned(steps, dict.fromkeys(range(6), 256))
    assert (arena.size, arena.live) == (512, 512)


def test_the_largest_buffer_is_placed_first():
    steps = [Step([], [0]), Step([], [1]), Step([0, 1], [2])]
    _, arena = planned(steps, {0: 256, 1: 1024, 2: 512})
    assert arena.offsets == {1: 0, 2: 1024, 0: 1536}


def test_bytes_by_format():
    rows = [3, 64]
    scaled = scaled_type([DYNAMIC, 64], f8e4m3, (32,))
    assert device_bytes(tensor([DYNAMIC, 64], bf16), rows) == 2 * 3 * 64
    assert runtime_bytes(tensor([DYNAMIC, 64], bf16), rows) == 4 * 3 * 64
    assert device_bytes(scaled, rows) == runtime_bytes(scaled, rows) == 3 * 64 + 3 * 2
    packed = scaled_type([DYNAMIC, 64], f4e2m1, (32,))
    assert device_bytes(packed, rows) == 3 * 32 + 3 * 2
    assert runtime_bytes(packed, rows) == 3 * 64 + 3 * 2
    assert runtime_bytes(tensor([DYNAMIC], i64), [5]) == 40


def test_bounds_of_sizes():
    bounds = Bounds(tokens=16, batch=2, context=100, memory="device")
    sizes = {"T": 16, "B": 2, "S:8": 13, "seen8": 24, "arrived": 7}
    assert {name: bounds.most(name, 7) for name in sizes} == sizes
    with pytest.raises(ValueError, match="nothing bounds"):
        bounds.most("N", 7)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 5), st.data())
def test_no_call_completes_more_windows_than_the_bound(counts, ratio, data):
    tokens, windows = sum(counts), 0
    for count in counts:
        start = data.draw(st.integers(0, 20))
        windows += (start + count) // ratio - start // ratio
    bounds = Bounds(tokens, len(counts), 100, "device")
    assert windows <= bounds.most(f"windows{ratio}", 0)


# ---- programs ----------------------------------------------------------------------------------

FUNCTION = """
func.func @f(%x: tensor<?x8xf32> {{graph.name = "x", graph.sizes = ["T", "D"]}}) -> ({results}) {{
  %w = graph.weight {{checkpoint = "w"}} : () -> tensor<8x8xf32>
{body}
}}
"""
ROWS = "tensor<?x8xf32>"
LINEAR = f"({ROWS}, tensor<8x8xf32>) -> {ROWS}"


def lowered(body, results=ROWS):
    attributes = 'attributes {supertile.entries = ["f"]}'
    text = FUNCTION.format(body=body, results=results)
    module = parse_module(f"{HEADER}\nbuiltin.module {attributes} {{{text}}}\n", "test.mlir")
    for one in (ChooseTiles(), LowerToTile()):
        one.apply(context(), module)
    return module


def program_of(module, **options):
    BuildSchedule(**options).apply(context(), module)
    fill_locations(module)
    verify_module(module, "scheduled")
    (program,) = [op for op in module.ops if isinstance(op, sched.Program)]
    return program


def shown(program):
    """Each action as its kernel, its outputs, and the kernels that it waits for."""
    return [
        (what(op), [value.name_hint for value in op.outputs], [what(other) for other in op.awaited])
        for op in program.actions
    ]


def what(op):
    return op.kernel.data if isinstance(op, sched.Task) else op.name


BRANCHES = f"""
  %a = graph.linear %x, %w : {LINEAR}
  %b = graph.linear %x, %w : {LINEAR}
  %c = graph.add %a, %b : ({ROWS}, {ROWS}) -> {ROWS}
  func.return %c : {ROWS}
"""


def test_results_go_to_memory_of_the_caller():
    program = program_of(lowered(BRANCHES))
    assert shown(program) == [
        ("linear_1", ["a"], []),
        ("linear_1", ["b"], []),
        ("add_1", ["c"], ["linear_1", "linear_1"]),
    ]
    assert program.outputs[0] in program.actions[2].outputs
    assert list(program.end.values) == list(program.outputs)
    buffers = [op for op in program.body.block.ops if isinstance(op, sched.Buffer)]
    assert [op.span for op in buffers] == [(0, 512), (512, 1024)]
    assert (program.arena.value.data, program.live.value.data) == (1024, 1024)


def test_buffers_are_as_long_as_the_bounds():
    program = program_of(lowered(BRANCHES), tokens=100)
    assert program.arena.value.data == 2 * aligned(100 * 8 * 4)
    assert list(program.bounds.get_values()) == [100, 1, 4096]


def test_results_that_no_task_makes_are_copied():
    body = f"""
  %a = graph.linear %x, %w : {LINEAR}
  func.return %a, %a, %x : {ROWS}, {ROWS}, {ROWS}
"""
    program = program_of(lowered(body, f"{ROWS}, {ROWS}, {ROWS}"))
    assert [name for name, _, _ in shown(program)] == ["linear_1", "sched.copy", "sched.copy"]
    assert shown(program)[1][2] == ["linear_1"] and shown(program)[2][2] == []


def test_reshapes_are_views():
    body = f"""
  %a = graph.linear %x, %w : {LINEAR}
  %v = graph.reshape %a {{shape = array<i64: -1, 2, 4>}} : ({ROWS}) -> tensor<?x2x4xf32>
  %b = graph.rms_norm %v {{eps = 1.0e-06 : f64}} : (tensor<?x2x4xf32>) -> tensor<?x2x4xf32>
  func.return %b : tensor<?x2x4xf32>
"""
    program = program_of(lowered(body, "tensor<?x2x4xf32>"))
    (view,) = [op for op in program.body.block.ops if isinstance(op, sched.View)]
    assert isinstance(view.x.owner, sched.Buffer)
    assert [waits for _, _, waits in shown(program)] == [[], ["linear_1"]]


def test_only_tiled_modules_are_scheduled():
    text = FUNCTION.format(body=BRANCHES, results=ROWS)
    module = parse_module(f"{HEADER}\nbuiltin.module {{{text}}}\n", "test.mlir")
    with pytest.raises(UserError, match="lower-to-tile before build-schedule"):
        BuildSchedule().apply(context(), module)


def test_the_same_module_gives_the_same_text():
    first, second = lowered(BRANCHES), lowered(BRANCHES)
    program_of(first)
    program_of(second)
    assert print_module(first) == print_module(second)
