"""`supertile explain`: what it lists, and that what it says adds up to what compile says."""

import json

import pytest

from supertile.cli.main import main
from supertile.targets.output.explain import SUMS

MODEL = ["explain", "deepseek_v4", "--config", "deepseek_v4_pro"]
DEPLOYED = ["--target", "h200", "--deploy", "phase=decode ep=32 batch=128 context=4K"]
WHOLE = ["--overlap", "none"]  # one dispatch and one combine a layer


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def kept(cache, monkeypatch):
    """The second question is answered by what is kept of the first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture
def explained(kept, capsys):
    """WHAT -> the JSON."""
    return lambda *what: json.loads(answer(capsys, *what, "--json"))


def answer(capsys, *what: str) -> str:
    assert main([*MODEL, *DEPLOYED, *WHOLE, *what]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    return output


def test_without_a_name_it_lists_tasks_and_figures(explained):
    known = explained()
    assert {"dispatch", "combine", "experts_1", "step_ms", "fits"} <= set(known)
    assert known["combine"].startswith("communication, ")


def test_a_transfer_has_its_route_and_all_others(explained):
    found = explained("dispatch")
    (about,), placed = found["explanations"], found["placement"]
    routes = {one["route"]: one["seconds"] for one in placed["alternatives"]}
    assert placed["route"] == ("hierarchical over scale_out by fused, node by fused, deduplicated")
    assert about["value"] == f"{routes[placed['route']] * 1e6:.3g} µs each"
    assert len(routes) == 4 and min(routes.values()) == routes[placed["route"]]
    assert placed["why"].startswith("the fastest of 4 routes")
    paths = [one["path"] for one in about["parameters"]]
    assert paths[:2] == [
        "domains.scale_out.protocols.dispatch.write_latency",
        "domains.scale_out.protocols.dispatch.write_bandwidth",
    ]
    assert len(placed["bounds"]) == 5 and len(placed["shared"]) == 3
    assert "traffic takes" in placed["condition"]


def test_a_kernel_has_formula_and_parameters(explained):
    (about,) = explained("experts_1")["explanations"]
    assert about["formula"][0].startswith("launch + sum over phases")
    assert {"value", "source", "evidence"} <= set(about["parameters"][0])
    assert about["critical"][0].startswith("on the critical path in layers")


def test_the_critical_path_of_a_step_ends_where_its_programs_do(explained):
    (about,) = explained("step_ms")["explanations"]
    named = [line.split(": ")[0] for line in about["critical"]]
    assert "layers_csa_score_router" in named
    assert all(", dispatch " in line for line in about["critical"] if line.startswith("layers"))
    assert explained("messages")["explanations"][0]["critical"] == []


@pytest.mark.parametrize(
    "name",
    ["step_ms", "exposed_communication_ms", "hidden_communication_ms", "wire_bytes", "messages"],
)
def test_the_parts_of_a_sum_are_all_of_it(name, explained):
    (about,) = explained(name)["explanations"]
    assert name in SUMS
    assert sum(part["share"] for part in about["parts"]) == pytest.approx(1)


def test_text_for_people(kept, capsys):
    text = answer(capsys, "combine")
    assert text.startswith("combine: ")
    for part in (
        "  formula\n",
        "  parameters\n",
        "  alternatives\n",
        "round otherwise",
        "  * direct",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) < 260
