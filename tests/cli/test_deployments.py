"""`supertile compile --target T --deploy D`: the answer, its files, what wrong input is told."""

import json
import re
from pathlib import Path

import pytest

from supertile.cli.deploy import Goal, Schedules, with_options
from supertile.cli.inputs import config_path, model_path
from supertile.cli.main import main
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.ir.verify import verify_module
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import PIPELINE, load_pass
from supertile.targets.deploy import parse_deployment
from supertile.targets.machine import load_machine, machine_names
from supertile.targets.overlap_choice import MOST_WAVES
from supertile.targets.step_costs import Overlap, overlap_of

DATA = Path(__file__).parents[1] / "data"
SMALL = ["compile", "deepseek_v4", "--config", str(DATA / "deepseek_v4_deployed")]
DECODE = "phase=decode ep=4 batch=8 context=64"
FILES = ["module.mlir", "plan.txt", "report.html", "schedule.json", "summary.json"]
FIELDS = {
    "step_ms", "time_per_output_token_ms", "tokens_per_second_per_device", "time_to_first_token_ms",
    "prefill_tokens_per_second_per_device", "device_unit", "memory_bytes_per_device",
    "memory_capacity_bytes", "fits", "exposed_communication_ms", "messages", "launches_per_layer",
}  # fmt: skip


@pytest.fixture
def shared_answers(tmp_path_factory, monkeypatch):
    """Answers that tests of this file have kept before: for those about what is in an answer."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "deployments"))


def ask(folder: Path, deployment: str, machine: str = "ascend-910c", model=SMALL) -> dict:  # type: ignore[type-arg,no-untyped-def]
    """The summary of a deployment, written to a folder."""
    where = ["--target", machine, "--deploy", deployment, "-o", str(folder)]
    assert main([*model, *where]) == 0
    found = json.loads((folder / "summary.json").read_text())
    return found.get("summary", found)  # type: ignore[no-any-return]


@pytest.mark.usefixtures("shared_answers")
def test_files_and_fields(tmp_path, capsys):
    summary = ask(tmp_path, DECODE)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert set(summary) >= FIELDS
    assert summary["device_unit"] == "die"
    events = json.loads((tmp_path / "schedule.json").read_text())["traceEvents"]
    names = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"kernels", "busy: cube", "busy: vector", "busy: hbm"} <= names
    assert any(name.startswith("link: ") for name in names)
    assert "Milliseconds of one step" in capsys.readouterr().out


def test_files_are_reproducible_kept_or_not(tmp_path):
    for name, more in (("a", []), ("b", []), ("c", ["--no-cache"])):
        where = ["--target", "h200", "--deploy", DECODE, "-o", str(tmp_path / name), *more]
        assert main([*SMALL, *where]) == 0
    for name in FILES:
        first = (tmp_path / "a" / name).read_bytes()
        assert (tmp_path / "b" / name).read_bytes() == first
        assert (tmp_path / "c" / name).read_bytes() == first


@pytest.mark.parametrize("machine", machine_names())
def test_every_machine_answers(machine, tmp_path):
    ranks = 1 if machine == "numpy" else 4
    summary = ask(tmp_path, f"phase=decode ep={ranks} batch=2 context=64", machine)
    assert summary["step_ms"] > 0
    assert summary["fits"] is True


@pytest.mark.usefixtures("shared_answers")
def test_prefill_has_a_first_token_and_decode_has_not(tmp_path):
    prefill = ask(tmp_path / "p", "phase=prefill ep=4 batch=1 context=64 chunk=16")
    decode = ask(tmp_path / "d", DECODE)
    assert prefill["time_to_first_token_ms"] == pytest.approx(4 * prefill["step_ms"])
    assert prefill["time_per_output_token_ms"] is None
    assert decode["time_to_first_token_ms"] is None


def test_accepted_drafts_share_a_step(tmp_path):
    summary = ask(tmp_path, f"{DECODE} mtp=0.5")
    assert summary["time_per_output_token_ms"] == pytest.approx(summary["step_ms"] / 1.5)


def test_more_sequences_are_not_faster(tmp_path):
    steps = [
        ask(tmp_path / str(batch), f"phase=decode ep=4 batch={batch} context=64")["step_ms"]
        for batch in (1, 512)
    ]
    assert steps == sorted(steps)


def test_twice_the_bandwidth_of_a_users_machine_is_faster(tmp_path):
    """Decoding Llama reads 16 GB of weights for few operations: the step is that of the memory."""
    text = Path(load_machine("h100").file).read_text()
    read = 'read = { value = 3.35, unit = "TB/s"'
    assert text.count(read) == 1
    faster = tmp_path / "faster.toml"
    faster.write_text(text.replace(read, read.replace("3.35", "6.7")))
    llama, asked = ["compile", "llama", "--config", "llama_3_1_8b"], "phase=decode batch=8"
    plain = ask(tmp_path / "plain", asked, "h100", llama)
    twice = ask(tmp_path / "twice", asked, str(faster), llama)
    parts = plain["memory_bytes_by_purpose"]
    embedding = 128256 * 4096 * 2  # of which a step reads 8 rows
    least = (parts["dense weights"] - embedding + parts["main cache"]) / 3.35e12 * 1e3
    assert least < plain["step_ms"] < 3 * least
    assert plain["step_ms"] / 2 < twice["step_ms"] < 0.7 * plain["step_ms"]


def test_the_real_model_within_its_bounds(tmp_path):
    model = ["compile", "deepseek_v4", "--config", "deepseek_v4_pro"]
    deployment = "phase=decode ep=384 batch=96 context=4096"
    summary = ask(tmp_path, deployment, model=model)
    parts = summary["memory_bytes_by_purpose"]
    read = parts["dense weights"] + parts["expert weights"]
    # All weights but the embedding are read once a step, at 1.6 TB/s at most.
    embedding = 129280 * 7168 * 2
    assert summary["step_ms"] >= (read - embedding) / 1.6e12 * 1e3
    assert summary["step_ms"] < 500
    assert parts["expert weights"] == pytest.approx(61 * 3 * 7168 * 3072, rel=0.01)


def test_what_does_not_fit_is_answered_with_what_does(tmp_path, capsys):
    model = ["compile", "deepseek_v4", "--config", "deepseek_v4_pro"]
    summary = ask(tmp_path, "phase=decode ep=8 batch=8 context=1024", "h100", model)
    assert summary["fits"] is False
    lines = capsys.readouterr().out.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("memory does not fit: "))
    assert lines[first + 1] == "  No batch and no context fits: take more ranks."


# ---- groups of ranks ---------------------------------------------------------------------------


@pytest.fixture
def wider(tmp_path) -> list[str]:
    """The small model with output groups that two ranks can share: blocks of 128 are whole."""
    config = json.loads((DATA / "deepseek_v4_deployed" / "config.json").read_text())
    folder = tmp_path / "wider"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({**config, "o_lora_rank": 128, "moe_intermediate_size": 256})
    )
    return ["compile", "deepseek_v4", "--config", str(folder)]


def tasks(folder: Path) -> set[str]:
    events = json.loads((folder / "schedule.json").read_text())["traceEvents"]
    names = {event["name"] for event in events}
    return names & {"all_reduce", "all_gather", "dispatch", "combine"}


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ("ep=4 tp=2", {"all_reduce", "all_gather", "dispatch", "combine"}),
        ("ep=1 tp=2", {"all_reduce"}),
    ],
)
def test_what_a_group_does_together_is_on_links(ranks, expected, wider, tmp_path):
    """With experts on ranks of their own tokens are shared; else each expert is sliced."""
    summary = ask(tmp_path / "out", f"phase=decode {ranks} batch=8 context=64", model=wider)
    assert tasks(tmp_path / "out") == expected
    assert summary["exposed_communication_ms"] > 0


def test_more_ranks_of_a_group_hold_less_each(tmp_path):
    """Until there are as many as key-value heads; matrices of a dense model go on."""
    llama = ["compile", "llama", "--config", str(DATA / "llama")]
    found = [
        ask(tmp_path / str(tp), f"phase=decode tp={tp} batch=8 context=64", "h100", llama)
        for tp in (1, 2, 4)
    ]
    parts = [one["memory_bytes_by_purpose"] for one in found]
    weights, caches = ([one[key] for one in parts] for key in ("dense weights", "main cache"))
    assert weights[0] > weights[1] > weights[2]
    assert caches[0] == 2 * caches[1] == 2 * caches[2], "two key-value heads"
    exposed = [one["exposed_communication_ms"] for one in found]
    assert exposed[0] == 0 < exposed[1] <= exposed[2]


WRONG = [
    ("phase=decode ep=4 batch=8 contxt=64", "context"),
    ("phase=decode ep=4 tp=2 batch=8 context=64", "tp=1"),
    ("phase=decode ep=4 batch=8 context=64 mtp", "mtp=VALUE"),
    ("phase=decode ep=4 batch=8 context=64 chunk=8", "prefill"),
    ("phase=decode ep=4 slots=1/rank batch=8 context=64", "slots"),
    ("", "phase"),
]


@pytest.mark.parametrize(("deployment", "told"), WRONG)
def test_impossible_deployments_are_told_in_a_paragraph(deployment, told, tmp_path, capsys):
    where = ["--target", "ascend-910c", "--deploy", deployment, "-o", str(tmp_path / "out")]
    assert main([*SMALL, *where]) == 1
    text = capsys.readouterr().err
    assert told in text
    assert "error: " in text.splitlines()[0]
    assert "Traceback" not in text
    assert len(text.splitlines()) <= 8
    assert not (tmp_path / "out").exists()


def test_more_ranks_than_devices(capsys):
    where = ["--target", "numpy", "--deploy", DECODE]
    assert main([*SMALL, *where]) == 1
    assert "fewer devices" in capsys.readouterr().err


def test_a_deployment_takes_all_passes(capsys):
    assert main([*SMALL, "--target", "h200", "--deploy", DECODE, "--stop-after", "graph"]) == 1
    assert "a deployment needs all passes" in capsys.readouterr().err


def test_memory_that_holds_no_tile(tmp_path, capsys):
    text = Path(main.__code__.co_filename).parents[1].joinpath("targets/machines/h200.toml")
    machine = tmp_path / "tiny.toml"
    machine.write_text(
        text.read_text()
        .replace('capacity = { value = 228, unit = "KiB"', 'capacity = { value = 4, unit = "KiB"')
        .replace('usable = { value = 227, unit = "KiB"', 'usable = { value = 3, unit = "KiB"')
    )
    model = ["compile", "deepseek_v4", "--config", "deepseek_v4_pro"]
    assert main([*model, "--target", str(machine), "--deploy", DECODE]) == 1
    error = capsys.readouterr().err
    assert "not even the smallest tile" in error
    assert "found: 3072 bytes" in error


@pytest.mark.usefixtures("shared_answers")
def test_a_failed_write_leaves_the_earlier_answer(tmp_path, capsys, monkeypatch):
    ask(tmp_path, DECODE)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(folder, name, text):
        from supertile.ir.errors import UserError

        raise UserError("command.unwritable", file=name, reason="no space left")

    monkeypatch.setattr("supertile.ir.output_folder.OutputFolder.write", full)
    where = ["--target", "h200", "--deploy", DECODE, "-o", str(tmp_path)]
    assert main([*SMALL, *where]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# ---- hidden communication ----------------------------------------------------------------------


def overlapped(folder: Path, capsys, *way: str) -> tuple[dict, str, str]:  # type: ignore[type-arg,no-untyped-def]
    """The summary, the IR, and the line of the terminal about how communication is hidden."""
    capsys.readouterr()
    summary = ask(folder, DECODE, model=[*SMALL, *way])
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("overlap: "))
    return summary, (folder / "module.mlir").read_text(), line


def test_a_way_to_hide_communication_can_be_asked_for(tmp_path, capsys):
    """Answers to others are kept apart; the module says how, and the terminal what others take."""
    auto, _, chosen = overlapped(tmp_path / "auto", capsys)
    summary, module, line = overlapped(tmp_path / "both", capsys, "--overlap", "both")
    assert line.startswith("overlap: 2 batches of 2 waves ")
    assert "#sched.wave<1, slots " in module and "microbatches = 2" in module
    assert auto["step_ms"] <= summary["step_ms"] * 1.001
    for told in (chosen, line):
        ways = {"none", "2 waves", "2 batches", "2 batches of 2 waves"}
        assert {part.rsplit(" ", 2)[0] for part in re.split(r": | \(|, |\)", told)[1:-1]} == ways


def test_overlap_is_for_deployments(capsys):
    assert main([*SMALL, "--overlap", "waves"]) == 1
    assert "only a deployment has communication to hide" in capsys.readouterr().err


def test_the_schedule_of_v4_pro_stays_small():
    """With as many waves as are ever chosen, halves, and a draft layer: below 3,000 ops."""
    config = read_config(config_path("deepseek_v4_pro"))
    asked = parse_deployment("phase=decode ep=8 batch=32 context=4096 mtp=0.7")
    names = ("deepseek_v4", "deepseek_v4_pro")
    goal = Goal(names, config, load_machine("ascend-910c"), asked)
    module = build_model(model_path("deepseek_v4"), config, "deployed", goal.entries)
    goal = goal.of_module(module)
    tiled = [load_pass(name)() for phase, name in PIPELINE if phase != "scheduled"]
    run_passes(module, with_options(tiled, goal.pass_options(), None))
    found = Schedules(goal, module).scheduled(Overlap(2, MOST_WAVES))
    assert overlap_of(found) == Overlap(2, MOST_WAVES)
    verify_module(found, "scheduled")
    assert sum(1 for _ in found.walk()) < 3_000
