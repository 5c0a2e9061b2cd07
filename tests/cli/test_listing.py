"""What `supertile list` prints."""

import pytest

from supertile.cli.main import main
from supertile.ir import graph
from supertile.passes.pipeline import pass_names
from supertile.targets.machine import machine_names


def listed(capsys, *arguments: str) -> str:
    assert main(["list", *arguments]) == 0
    return capsys.readouterr().out


def test_every_pass_is_listed(capsys):
    assert [line.split()[1] for line in listed(capsys, "passes").splitlines()] == pass_names()


def test_every_op_is_listed_with_its_meaning(capsys):
    lines = listed(capsys, "ops").splitlines()
    assert [line.split()[0] for line in lines] == [op.name for op in graph.OPS]
    assert all(len(line.split()) > 1 for line in lines)


def test_every_target_is_listed(capsys):
    lines = listed(capsys, "targets").splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(machine_names())


@pytest.mark.parametrize("name", machine_names())
def test_a_target_shows_each_figure_with_its_evidence(capsys, name):
    text = listed(capsys, "targets", "--show", name)
    assert "evidence" in text and "source" in text


@pytest.mark.parametrize("op", graph.OPS, ids=lambda op: op.name)
def test_an_op_shows_where_its_rules_are(capsys, op):
    text = listed(capsys, "ops", "--show", op.name)
    assert "shape rule" in text and "work rule" in text and "NumPy" in text
