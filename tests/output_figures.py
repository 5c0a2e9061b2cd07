"""Reads every figure that a deployment is answered with, and says which contradict each other.

    output = read_output(folder, terminal, explained)
    assert not [*faults(output)]

What is read is what users have: the terminal, summary.json, schedule.json, the data of report.html,
and what `explain --json` says. Nothing is computed as the compiler does it; sums, ranges and
definitions are checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NUMBER = r"[0-9][0-9,]*(?:\.[0-9]+)?"
SCALES = {
    "": 1.0,
    "s": 1e3,
    "ms": 1.0,
    "µs": 1e-3,
    "us": 1e-3,
    "ns": 1e-6,
    "B": 1.0,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
}
"""Units of the terminal in those of summary.json: milliseconds and bytes."""
ROW = re.compile(rf"^( {{0,2}}\S.*?)  +({NUMBER})(?: (ms|µs|ns|s|B|kB|MB|GB|TB))?(?:  .*)?$")
WEAKEST = {"verified": 0, "partly verified": 1, "unverified": 2}
OF_EVIDENCE = {"measured": 0, "vendor": 1, "derived": 1, "assumed": 2, "unknown": 2}
NEAR = 1e-6
"""Relative: sums in floats, and times in whole nanoseconds."""


@dataclass
class Output:
    """All that a deployment is answered with."""

    terminal: str
    summary: dict[str, Any]
    schedule: dict[str, Any]
    report: dict[str, Any]
    explained: dict[str, Any]
    """Name -> what `explain NAME --json` prints; "" -> what is printed without a name."""

    @property
    def deployment(self) -> dict[str, str]:
        """The key and value pairs of the full deployment."""
        line = re.search(r"phase=\S+(?:\s+\w+=\S+)*", self.terminal)
        assert line is not None, "the terminal names the deployment"
        return dict(pair.split("=") for pair in line[0].split())

    @property
    def ranks(self) -> int:
        """tp groups of ranks, of which each has sequences of its own."""
        return int(self.deployment["tp"]) * int(self.deployment["dp"])


def read_output(folder: Path, terminal: str, explained: Mapping[str, Any]) -> Output:
    """Of the folder that `compile -o` wrote."""
    summary, schedule = (
        json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("summary", "schedule")
    )
    page = (folder / "report.html").read_text("utf-8")
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None, "the page has data"
    return Output(terminal, summary, schedule, json.loads(data[1]), dict(explained))


def faults(output: Output) -> Iterator[str]:
    """A sentence for each contradiction."""
    for check in CHECKS:
        yield from check(output)


def number(text: str) -> float:
    return float(text.replace(",", ""))


def differs(found: float, expected: float, least: float = 0.0) -> bool:
    return abs(found - expected) > max(NEAR * abs(expected), least)


def rounds_to(text: str, value: float, scale: float = 1.0) -> bool:
    """Whether the printed text is the value at the digits that are printed.

    Zeros at the end are left out, so a whole number may stand for three digits.
    """
    decimals = len(text.partition(".")[2])
    step = 0.5 * 10.0**-decimals * 1.001
    if not decimals:
        step = max(step, 0.005 * abs(value) / scale)
    return abs(number(text) - value / scale) <= step


# ---- terminal and summary ----------------------------------------------------------------------


def label(key: str) -> str:
    return re.sub(r"_(ms|us|seconds)$", "", key).replace("_", " ")


def numbers_of(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """(label, number) of all numbers, in order; those of a table with two spaces before."""
    for key, value in summary.items():
        if isinstance(value, dict) and key != "definitions":
            for part, size in value.items():
                yield f"  {label(part)}", float(size)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield label(key), float(value)


def terminal_is_summary(output: Output) -> Iterator[str]:
    rows: dict[str, list[tuple[str, str]]] = {}
    for line in output.terminal.splitlines():
        if match := ROW.match(line):
            rows.setdefault(match[1], []).append((match[2], match[3] or ""))
    for name, value in numbers_of(output.summary):
        told = rows.get(name, [])
        if not any(rounds_to(text, value, SCALES[unit]) for text, unit in told):
            yield f"terminal has {name} {told}, summary.json {value}"
    for key in ("device_unit", "evidence"):
        if not re.search(rf"^{label(key)} +{output.summary[key]}\b", output.terminal, re.MULTILINE):
            yield f"terminal and summary.json differ in {key}"


def memory_is_its_parts(output: Output) -> Iterator[str]:
    summary, asked = output.summary, output.deployment
    parts = summary["memory_bytes_by_purpose"]
    if differs(sum(parts.values()), summary["memory_bytes_per_device"]):
        yield "parts of the memory do not add up"
    if min(parts.values()) < 0:
        yield "a part of the memory is negative"
    fits = summary["memory_bytes_per_device"] <= summary["memory_capacity_bytes"]
    if summary["fits"] != fits or ("memory fits" in output.terminal) != fits:
        yield "fits is not what memory and capacity say"
    for key in ("batch", "context"):
        if (summary[f"largest_{key}"] >= int(asked[key])) != fits:
            yield f"largest_{key} and fits contradict each other"
    note = re.search(r"At most\s(.*?)\sfits\.", output.terminal, re.DOTALL)
    told = dict(re.findall(r"(batch|context)=(\d+)", note[1])[:1]) if note else {}
    if note and int(told.get("batch", 0)) not in (0, summary["largest_batch"]):
        yield "the note on what fits differs from largest_batch"


def rates_follow_from_the_step(output: Output) -> Iterator[str]:
    summary, asked = output.summary, output.deployment
    sequences = int(asked["batch"]) * int(asked["dp"])
    step = summary["step_ms"] / 1e3
    if asked["phase"] == "decode":
        tokens = 1 + float(asked.get("mtp", 0))
        if differs(summary["time_per_output_token_ms"] * tokens, step * 1e3):
            yield "time per output token x tokens is not the step"
        if differs(
            summary["tokens_per_second_per_device"], sequences * tokens / step / output.ranks
        ):
            yield "tokens per second are not tokens of a step over its time"
        return
    first = summary["time_to_first_token_ms"] / 1e3
    calls = first / step
    if differs(calls, round(calls)) or round(calls) < 1:
        yield "the first token does not take whole steps"
    prompt = sequences * int(asked["context"])
    if differs(summary["prefill_tokens_per_second_per_device"], prompt / first / output.ranks):
        yield "prefill tokens per second are not the prompts over their time"


def evidence_is_the_weakest(output: Output) -> Iterator[str]:
    matter = [
        OF_EVIDENCE[one["evidence"]]
        for one in output.report["figures"]
        if "share" in one and not one["share"].startswith("<") and share(one["share"]) >= 5.05
    ]
    if matter and WEAKEST[output.summary["evidence"]] < max(matter):
        yield "a figure behind the step is weaker than the evidence told"
    for one in output.report["figures"]:
        if one.get("value") == "unknown" and one["evidence"] != "assumed":
            yield f"{one['path']} is unknown and not assumed"
        if "share" in one and not one["share"].startswith("<") and share(one["share"]) > 100.05:
            yield f"{one['path']} is behind more than the whole step"


def share(text: str) -> float:
    return float(text.removesuffix(" %"))


# ---- schedule and report -----------------------------------------------------------------------


def layers_are_the_step(output: Output) -> Iterator[str]:
    events = output.schedule["traceEvents"]
    layers = sorted((one for one in events if one.get("cat") == "layer"), key=lambda one: one["ts"])
    end = 0.0
    for one in layers:
        if abs(one["ts"] - end) > 0.0015:
            yield "runs of programs do not follow one another"
        end = one["ts"] + one["dur"]
    if differs(end / 1e3, output.summary["step_ms"], 1e-5):
        yield f"schedule.json ends at {end / 1e3} ms"


def tasks_are_the_summary(output: Output) -> Iterator[str]:
    events = output.schedule["traceEvents"]
    if any("not drawn" in str(one["name"]) for one in events if one["ph"] == "X"):
        return
    tasks = [one for one in events if one["ph"] == "X" and "messages" in one["args"]]
    for name, key in (("messages", "messages"), ("wire bytes", "wire_bytes")):
        if differs(sum(one["args"][name] for one in tasks), output.summary[key]):
            yield f"{name} of all tasks are not {key}"
    if any(one["args"]["messages"] > 0 and not one["args"]["wire bytes"] for one in tasks):
        yield "messages without bytes"


def programs_are_the_step(output: Output) -> Iterator[str]:
    report, summary = output.report, output.summary
    step = exposed = hidden = shares = 0.0
    for one in report["programs"]:
        length, count = one["duration"], one["count"]
        step, shares = step + count * length, shares + one["share"]
        if one["tasks"] and differs(sum(one["split"]), 1.0, 1e-5):
            yield f"the parts of {one['name']} do not add up"
        lanes = [row for row in one["rows"] if row["role"] == "lane"]
        ends = [start + taken for row in lanes for _, start, taken in row["bars"]]
        if differs(max(ends, default=0), length, 2):
            yield f"{one['name']} does not end with its last task"
        links = [row for row in lanes if not row["title"].startswith("compute")]
        busy = covered([(s, s + taken) for row in links for _, s, taken in row["bars"]])
        alone = covered([tuple(pair) for pair in one["exposed"]])
        exposed, hidden = exposed + count * alone, hidden + count * (busy - alone)
        split = dict(zip(report["parts"], one["split"], strict=True))
        if differs(split["exposed communication"] * length, alone, 2 + 1e-5 * length):
            yield f"exposed communication of {one['name']} is told twice"
    if differs(step / 1e6, summary["step_ms"], 1e-5):
        yield "programs x counts are not the step"
    if differs(shares, 1.0, 1e-4):
        yield "shares of programs do not add up"
    if differs(exposed / 1e6, summary["exposed_communication_ms"], 1e-4):
        yield f"links are exposed for {exposed / 1e6} ms in the report"
    if differs(hidden / 1e6, summary["hidden_communication_ms"], 1e-4):
        yield f"links are hidden for {hidden / 1e6} ms in the report"
    if summary["launches"] != sum(
        one["count"] * summary["launches_per_layer"].get(one["name"], 0)
        for one in report["programs"]
    ):
        yield "launches are not those of the layers"


def covered(spans: list[Any]) -> float:
    """The length of the union."""
    total, reached = 0.0, 0.0
    for start, end in sorted(spans):
        total, reached = total + max(0.0, end - max(start, reached)), max(reached, end)
    return total


# ---- what is told of the traffic ---------------------------------------------------------------


def traffic_table_holds(output: Output) -> Iterator[str]:
    rows = {
        name: [number(one) for one in re.findall(NUMBER, rest)]
        for name, rest in re.findall(
            r"^  (each choice|one copy a rank) +(.*)$", output.terminal, re.MULTILINE
        )
    }
    if not rows:
        return
    ranks = int(output.deployment["ep"])
    each, once = rows["each choice"], rows["one copy a rank"]
    if each[-1] > ranks or once[-1] > min(ranks, each[-1]):
        yield "a token reaches more ranks than there are"
    if once[0] > each[0] or once[1] > each[1]:
        yield "one copy a rank is more than one for each choice"
    tail = re.search(rf"has ({NUMBER}) times as many, ({NUMBER}) messages", output.terminal)
    if tail is None or not rounds_to(tail[1], number(tail[2]) / max(each[0], 1e-9)):
        yield "messages of the fullest rank are not those of the average x its tail"
    elif exchanges_alone(output):
        layers = explanation(output, "dispatch")["count"]
        told = output.summary["messages"]
        if abs(number(tail[2]) * layers - told) > 0.06 * layers + NEAR * told:
            yield "messages of a step are not those of a layer x the layers"


def exchanges_alone(output: Output) -> bool:
    """Whether messages are those of dispatch and combine, each choice on its own way."""
    plain = re.findall(r"^(?:dispatch|combine) (direct .*?):", output.terminal, re.MULTILINE)
    whole = "dispatch" in output.explained and output.deployment["tp"] == "1"
    whole = whole and "overlap: none" in output.terminal and "taken as balanced" in output.terminal
    return whole and len(plain) == 2 and not any("dedup" in one for one in plain)


def explanation(output: Output, name: str) -> dict[str, Any]:
    """What explain says of a task, with how often it runs in a step."""
    found = output.explained[name]["explanations"][0]
    count = re.search(rf"({NUMBER}) a step", found["title"])
    return {**found, "count": 0 if count is None else int(number(count[1]))}


def transfers_hold(output: Output) -> Iterator[str]:
    total, whole = 0.0, "overlap: none" in output.terminal
    for name in ("dispatch", "combine"):
        if name not in output.explained:
            return
        about = output.explained[name]
        told = explanation(output, name)
        rows = next((line for line in told["formula"] if line.startswith("rows = ")), "")
        terms = [number(one) for one in re.findall(NUMBER, rows)]
        wave = 1.0 if " of the experts" not in rows else terms.pop(3)
        if abs(wave * terms[0] * terms[1] * terms[2] / terms[3] - 1) > 2e-3:
            yield f"rows of {name} are not tokens x choices x tail"
        reached = re.search(rf"a token reaches ({NUMBER}) of (\d+) ranks", rows)
        if reached is None or number(reached[1]) > int(reached[2]):
            yield f"a token of {name} reaches more ranks than there are"
        placed = about["placement"]
        taken = next(one for one in placed["alternatives"] if one["route"] == placed["route"])
        value = re.match(rf"({NUMBER}) (\S+) each", told["value"])
        takes = taken["seconds"] * 1e3
        if whole and (value is None or not rounds_to(value[1], takes, SCALES[value[2]])):
            yield f"the route of {name} takes another time than the task"
        total += told["count"] * taken["messages"]
        yield from lines_hold(name, placed)
    if whole and output.deployment["tp"] == "1" and differs(total, output.summary["messages"]):
        yield "messages are not those of the routes x the layers"


def lines_hold(name: str, placed: Mapping[str, Any]) -> Iterator[str]:
    """The sentences about a transfer."""
    packed = re.search(rf"({NUMBER}) rows of", placed["crossovers"][0])
    if packed is None or number(packed[1]) < 1:
        yield f"a message of {name} has less than a row"
    for line in placed["bounds"]:
        ratio = re.search(rf"({NUMBER}) times as much", line)
        if ratio and number(ratio[1]) < 1:
            yield f"a layer takes less than its lower bound: {line}"
    for one in placed["alternatives"]:
        if one["seconds"] is not None and min(one["seconds"], one["messages"]) < 0:
            yield f"a route of {name} takes less than nothing"


def hides_only_what_is_hidden(output: Output) -> Iterator[str]:
    texts = [output.terminal, json.dumps(output.explained)]
    exposed = output.summary["exposed_communication_ms"]
    if exposed > 0 and any(re.search(r"traffic\s+hides", text) for text in texts):
        yield f"traffic hides, and {exposed} ms of it are exposed"


# ---- explain -----------------------------------------------------------------------------------

SUMS = ("step_ms", "messages", "wire_bytes", "exposed_communication_ms", "memory_bytes_by_purpose")


def parts_add_up(output: Output) -> Iterator[str]:
    for name in SUMS:
        if name not in output.explained or not output.summary[name]:
            continue
        (about,) = output.explained[name]["explanations"]
        if differs(sum(part["share"] for part in about["parts"]), 1.0):
            yield f"the parts of {name} do not add up"


def operations_are_the_step(output: Output) -> Iterator[str]:
    texts = [text for text in output.explained[""].values() if " a step, " in text]
    listed = [one for text in texts for one in re.findall(r"a step, (<? ?[0-9.]+) % of it", text)]
    least = sum(0.0 if one.startswith("<") else float(one) - 0.05 for one in listed)
    most = sum(0.1 if one.startswith("<") else float(one) + 0.05 for one in listed)
    idle = sum(
        one["share"] * dict(zip(output.report["parts"], one["split"], strict=True))["idle"]
        for one in output.report["programs"]
    )
    if not least - 0.1 <= 100 * (1 - idle) <= most + 0.1:
        yield "operations do not add up to the step"
    for key, value in numbers_of({k: v for k, v in output.summary.items() if k in SUMS[:4]}):
        told = next(text for name, text in output.explained[""].items() if label(name) == key)
        match = re.match(rf"({NUMBER})(?: (\w+))?$", told)
        if match is None or not rounds_to(match[1], value, SCALES[match[2] or ""]):
            yield f"explain lists {key} as {told}"


CHECKS: tuple[Callable[[Output], Iterator[str]], ...] = (
    terminal_is_summary,
    memory_is_its_parts,
    rates_follow_from_the_step,
    evidence_is_the_weakest,
    layers_are_the_step,
    tasks_are_the_summary,
    programs_are_the_step,
    traffic_table_holds,
    transfers_hold,
    hides_only_what_is_hidden,
    parts_add_up,
    operations_are_the_step,
)
