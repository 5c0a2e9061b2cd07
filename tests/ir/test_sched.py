"""Programs by hand: their text, and every check on them with what makes it fail."""

import re

import pytest

from supertile.ir import sched
from supertile.ir.errors import UserError
from supertile.ir.sched_check import program_problems
from supertile.ir.text import HEADER, parse_module, print_module

KERNEL = """
tile.kernel {extents = [#tile.extent<"size", 0, 0, 1, 0>], inputs = 1 : i64, kind = "copy",
             reuses = array<i64: -1>, sym_name = "copy"} : () -> () {
^bb0(%x: !tile.ref<tensor<?x4xf32>>, %y: !tile.ref<tensor<?x4xf32>>):
  tile.grid %y {axes = array<i64: 0>, ragged = array<i64: 0>, steps = array<i64: 2>}
    : (!tile.ref<tensor<?x4xf32>>) -> () {
  ^bb1(%i: index):
    %t = tile.load %x, %i {axes = array<i64: 0>, operandSegmentSizes = array<i32: 1, 0, 1, 0>,
      pad = 0.0 : f64, space = "cache"} : (!tile.ref<tensor<?x4xf32>>, index) -> tensor<2x4xf32>
    tile.store %t, %y, %i {axes = array<i64: 0>, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}
      : (tensor<2x4xf32>, !tile.ref<tensor<?x4xf32>>, index) -> ()
    tile.end : () -> ()
  }
  tile.end : () -> ()
}
"""
REF = "!tile.ref<tensor<?x4xf32>>"
INPUT = "tensor<?x4xf32>"


def program(body, arena=512, name="p"):
    return f"""
sched.program {{arena = {arena} : i64, arguments = [{{graph.name = "x", graph.sizes = ["T", "C"]}}],
  bounds = array<i64: 16, 1, 64>, inputs = 1 : i64, live = {arena} : i64, memory = "runtime",
  results = ["y"], sym_name = "{name}"}} : () -> () {{
^bb0(%x: {INPUT}, %y: {REF}):
  sched.lane {{kind = "compute", lane = "compute"}} : () -> ()
{body}
  sched.end %y : ({REF}) -> ()
}}
"""


def buffer(name, start):
    """256 bytes of the arena."""
    return f"  %{name} = sched.buffer {{bytes = 256 : i64, offset = {start} : i64}} : () -> {REF}"


def task(event, source, target, *waits, lane="compute", kernel="copy"):
    operands = ", ".join([f"%{source}", f"%{target}", *(f"%{wait}" for wait in waits)])
    kinds = [INPUT if source == "x" else REF, REF, *["!sched.event"] * len(waits)]
    return (
        f'  %{event} = sched.task {operands} {{kernel = "{kernel}", lane = "{lane}", '
        f"operandSegmentSizes = array<i32: 1, 1, {len(waits)}>}} : ({', '.join(kinds)}) "
        "-> !sched.event"
    )


def module(*lines, arena=512):
    body = "\n".join(lines)
    text = f"{HEADER}\nbuiltin.module {{{KERNEL}{program(body, arena)}}}\n"
    return parse_module(text, "test.mlir", verify=False)


def messages(held, capacity=None):
    symbols = {op.sym_name.data: op for op in held.ops}
    return [message for _, message in program_problems(symbols["p"], symbols, capacity)]


CHAIN = (
    buffer("a", 0),
    task("e", "x", "a"),
    buffer("b", 256),
    task("f", "a", "b", "e"),
    task("g", "b", "y", "f"),
)


def test_a_program_reads_as_it_was_printed():
    text = print_module(module(*CHAIN), locations=False)
    assert print_module(parse_module(text, "again.mlir"), locations=False) == text
    assert messages(module(*CHAIN)) == []


COST = "#sched.cost<start = {}, duration = {}, flops = 64, bytes = 512, wire = 0>"


def costed(*times):
    """The text of the chain, each task with its start and its duration; None: without a cost."""
    parts = print_module(module(*CHAIN), locations=False).split("sched.task")
    texts = ["" if one is None else f"cost = {COST.format(*one)}, " for one in times]
    tasks = [
        part.replace("{kernel", "{" + text + "kernel", 1)
        for text, part in zip(texts, parts[1:], strict=True)
    ]
    return "sched.task".join([parts[0], *tasks])


def test_costs_read_as_they_were_printed():
    text = costed((0, 950), (950, 3), (960, 1))
    found = [op.cost for op in parse_module(text, "costs.mlir").walk() if getattr(op, "cost", None)]
    assert found[0] == sched.CostAttr.of(start=0, duration=950, flops=64, bytes=512)
    assert [(one.start, one.end) for one in found] == [(0, 950), (950, 953), (960, 961)]
    assert print_module(parse_module(text, "costs.mlir"), locations=False) == text


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (((0, 950), (949, 3), (960, 1)), "starts at 949 ns, but waits for @copy until 950"),
        (((0, 950), (950, 3), None), "has no cost, others of its program have"),
    ],
)
def test_times_are_those_of_an_order_that_events_allow(times, message):
    with pytest.raises(UserError, match=message):
        parse_module(costed(*times), "costs.mlir")


def test_a_race_is_an_error_of_the_text():
    lines = [*CHAIN[:3], task("f", "a", "b"), CHAIN[4]]
    with pytest.raises(UserError, match="race for %a"):
        parse_module(print_module(module(*lines)), "test.mlir")


PROBLEMS = {
    "a reader that does not wait": (
        [*CHAIN[:3], task("f", "a", "b"), CHAIN[4]],
        ["a race for %a", "read that nothing has written"],
    ),
    "a writer over bytes in use": (
        [*CHAIN[:2], buffer("b", 128), *CHAIN[3:]],
        ["the buffer is live while another has bytes of it"],
    ),
    "two writers of a result": (
        [*CHAIN, task("h", "b", "y", "f")],
        ["a race for %y"],
    ),
    "a reader before the writer": (
        [buffer("a", 0), task("e", "a", "y"), task("f", "x", "a", "e")],
        ["read that nothing has written"],
    ),
    "a result that nobody writes": (
        [buffer("a", 0), task("e", "x", "a")],
        ["a result is never written"],
    ),
    "a lane that is not there": ([task("e", "x", "y", lane="nic")], ["no lane nic"]),
    "a second lane of the name": (
        ['  sched.lane {kind = "link", lane = "compute"} : () -> ()', task("e", "x", "y")],
        ["two lanes compute"],
    ),
    "a kernel that is not there": ([task("e", "x", "y", kernel="other")], ["no kernel @other"]),
    "a buffer beyond the arena": (
        [buffer("a", 384), task("e", "x", "a"), task("f", "a", "y", "e")],
        ["the buffer ends at 640, the arena at 512"],
    ),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_problems_are_found(what):
    lines, expected = PROBLEMS[what]
    found = messages(module(*lines))
    assert len(found) >= len(expected)
    for part in expected:
        assert any(part in message for message in found), found


def test_sharing_bytes_needs_an_order_of_all_users():
    """b takes the bytes of a: its writer must wait for the reader of a."""
    ordered = [buffer("a", 0), task("e", "x", "a"), task("f", "a", "y", "e"), buffer("b", 0)]
    assert messages(module(*ordered, task("g", "x", "b", "f"))) == []
    found = messages(module(*ordered, task("g", "x", "b", "e")))
    assert any("race for %" in message for message in found)
    assert any("is live while another" in message for message in found)


def test_the_arena_fits_the_capacity():
    assert messages(module(*CHAIN), capacity=512) == []
    assert messages(module(*CHAIN), capacity=511) == ["the arena has 512 bytes, there are 511"]


def test_an_event_comes_from_above():
    held = module(*CHAIN)
    first = next(op for op in held.walk() if isinstance(op, sched.Task))
    first.detach()
    last = next(op for op in held.walk() if isinstance(op, sched.End))
    last.parent.insert_op_before(first, last)
    assert messages(held) == ["an event is waited for above where it is given"]


def test_types_of_memory_fit_the_kernel():
    text = print_module(module(*CHAIN), locations=False)
    wider = re.sub(r"(?<!ref<)tensor<\?x4xf32>", "tensor<?x5xf32>", text)  # only of what is given
    (found,) = messages(parse_module(wider, "test.mlir", verify=False))
    assert found == "inputs of @copy: number 0 is tensor<?x4xf32>, not tensor<?x5xf32>"


MALFORMED = {
    'kind = "compute"': ('kind = "quantum"', "a lane is one of compute, link"),
    'memory = "runtime"': ('memory = "cloud"', "memory is one of device, runtime"),
    "array<i64: 16, 1, 64>": ("array<i64: 16>", "bounds are tokens, sequences and context"),
    "offset = 256": ("offset = -256", "no negative numbers"),
    "inputs = 1 : i64, live": ("inputs = 2 : i64, live", "1 attributes for 2"),
}


@pytest.mark.parametrize("part", MALFORMED)
def test_malformed_ops_are_refused(part):
    other, message = MALFORMED[part]
    text = print_module(module(*CHAIN), locations=False)
    assert part in text
    with pytest.raises(UserError, match=message):
        parse_module(text.replace(part, other, 1), "test.mlir")
