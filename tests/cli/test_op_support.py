"""`supertile list ops --model M --target T`: the table, and how wrong options are answered."""

import pytest

from supertile.cli.main import main

MACHINE = """
name = "plain"
title = "A machine of one format"
device_unit = "chip"
devices = { value = 2, unit = "count", source = "S", evidence = "assumed", note = "made up" }
[sources]
S = "made up"
[formats]
stored = ["f32", "f16"]
source = "S"
evidence = "assumed"
[engines.tensor]
kind = "matrix"
cores = { value = 1, unit = "count", source = "S", evidence = "assumed", note = "made up" }
rate.f16 = { value = 1, unit = "TFLOP/s", source = "S", evidence = "assumed", note = "made up" }
[engines.simd]
kind = "vector"
cores = { value = 1, unit = "count", source = "S", evidence = "assumed", note = "made up" }
rate.f32 = { value = 1, unit = "TFLOP/s", source = "S", evidence = "assumed", note = "made up" }
[memories.hbm]
per = "device"
capacity = { value = 1, unit = "GB", source = "S", evidence = "assumed", note = "made up" }
read = { value = 1, unit = "GB/s", source = "S", evidence = "assumed", note = "made up" }
[domains.board]
devices = { value = 2, unit = "count", source = "S", evidence = "assumed", note = "made up" }
bandwidth = { value = 1, unit = "GB/s", source = "S", evidence = "assumed", note = "made up" }
latency = { value = 1, unit = "us", source = "S", evidence = "assumed", note = "made up" }
"""


def table(capsys, *arguments: str) -> tuple[str, list[str]]:
    """The title, and the rows with one space between columns."""
    assert main(["list", "ops", *arguments]) == 0
    title, _, _, *rows = capsys.readouterr().out.splitlines()
    return title, [" ".join(row.split()) for row in rows]


def refused(capsys, *arguments: str) -> str:
    assert main(["list", *arguments]) == 1
    return capsys.readouterr().err


def test_ops_of_v4_on_ascend_910c(capsys):
    title, rows = table(capsys, "--model", "deepseek_v4", "--target", "ascend-910c")
    assert title.startswith("deepseek_v4 (deepseek_v4_pro, deployed numerics) on ascend-910c: ")
    assert title.endswith(", 0 missing")
    assert "graph.grouped_linear f8e4m3 x f4e2m1 converted: f8e4m3, f4e2m1 -> i8" in rows
    assert "graph.attend bf16 x bf16 native" in rows
    assert not any(row.startswith("graph.layers") for row in rows)


def test_ops_of_v4_on_h200(capsys):
    _, rows = table(capsys, "--model", "deepseek_v4", "--target", "h200")
    decoded = "converted: f4e2m1 decoded to f8e4m3 in the kernel"
    assert f"graph.grouped_linear f8e4m3 x f4e2m1 {decoded}" in rows


def test_another_config_and_machine_by_path(capsys, tmp_path):
    path = tmp_path / "plain.toml"
    path.write_text(MACHINE)
    title, rows = table(
        capsys, "--model", "llama", "--config", "llama_3_1_8b", "--target", str(path)
    )
    assert "llama (llama_3_1_8b, deployed numerics) on plain" in title
    assert "0 missing" not in title
    assert any("missing: bf16 is not stored" in row for row in rows)


def test_the_order_is_that_of_the_dialect_and_the_same_twice(capsys):
    first = table(capsys, "--model", "deepseek_v3", "--target", "ascend-910c")
    assert first == table(capsys, "--model", "deepseek_v3", "--target", "ascend-910c")
    assert [row.split()[0] for row in first[1]][:3] == ["graph.constant", *["graph.weight"] * 2]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["ops", "--target", "h200"], "--target goes with --model"),
        (["ops", "--config", "deepseek_v3"], "--config goes with --model"),
        (["ops", "--model", "deepseek_v3"], "needs a machine"),
        (["passes", "--model", "deepseek_v3"], "--model goes with `list ops` alone"),
        (["targets", "--target", "h200"], "--target goes with `list ops` alone"),
        (["ops", "--show", "cast", "--model", "llama", "--target", "h200"], "cannot be combined"),
        (["ops", "--model", "lama", "--target", "h200"], "did you mean llama?"),
        (["ops", "--model", "llama", "--target", "h20"], "write a file for it"),
        (["ops", "--model", "llama", "--target", "h200", "--config", "x"], "there is no config x"),
    ],
)
def test_wrong_options(capsys, arguments, part):
    message = refused(capsys, *arguments)
    assert part in message
    assert "Traceback" not in message


def test_a_model_of_the_users_own_needs_a_config(capsys, tmp_path):
    path = tmp_path / "llama.st"  # the name of a shipped one, in another place
    path.write_text('model Mine for "llama"\n')
    message = refused(capsys, "ops", "--model", str(path), "--target", "h200")
    assert "no config is published with" in message
