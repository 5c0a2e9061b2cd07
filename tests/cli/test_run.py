"""`supertile run`: what it writes, and that every way of feeding gives the same."""

import shlex

import numpy as np
import pytest
from command_files import DATA, make_files

from supertile.cli.main import main

CONFIGS = ("llama", "deepseek_v3", "deepseek_v4", "deepseek_v4_deployed")
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("files")
    make_files(made)
    return made


@pytest.fixture
def run(tmp_path, folder):
    """The arrays that a run of a case of `tests/data` writes."""

    def run_case(case: str, options: str) -> dict[str, np.ndarray]:
        model = case.removesuffix("_deployed")
        target = tmp_path / "out.npz"
        line = f"run {model} --config {DATA / case} --weights {DATA / case} -o {target} {options}"
        assert main(shlex.split(line.replace("FILES", str(folder)))) == 0
        with np.load(target) as held:
            return dict(held)

    return run_case


@pytest.mark.parametrize("case", CONFIGS[:3])
def test_logits_are_those_of_the_reference(case, run):
    reference = np.load(DATA / case / "io.npz")
    options = f"--tokens {DATA / case / 'io.npz'} --prompt 10 --chunk 4 --teacher"
    held = run(case, options)
    wanted = reference["logits_prefill"]
    assert held["logits"].dtype == np.float32
    assert held["logits"].shape == wanted.shape
    assert np.abs(held["logits"] - wanted).max() < TOLERANCE
    assert held["lengths"].tolist() == [wanted.shape[1]] * len(wanted)
    assert np.array_equal(held["tokens"], reference["input_ids"])


def test_deployed_numerics_and_a_draft(run):
    tokens = f"--tokens {DATA / 'deepseek_v4_deployed' / 'io.npz'} --prompt 12"
    held = run("deepseek_v4_deployed", f"{tokens} --numerics deployed --draft")
    batch, steps, vocabulary = held["logits"].shape
    assert held["draft_logits"].shape == (batch, steps - 1, vocabulary)
    assert np.isfinite(held["draft_logits"]).all()
    plain = run("deepseek_v4_deployed", f"{tokens} --numerics deployed")
    assert np.array_equal(plain["logits"], held["logits"])
    assert "draft_logits" not in plain


def test_rows_of_unequal_length(run):
    held = run("llama", "--tokens FILES/tokens.txt")
    assert held["lengths"].tolist() == [6, 3]
    assert held["tokens"].tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, -1, -1, -1]]
    assert held["logits"].shape == (2, 6, 128)
    assert np.isnan(held["logits"][1, 3:]).all()
    assert np.isfinite(held["logits"][1, :3]).all()
    assert np.isfinite(held["logits"][0]).all()


# Ways of feeding that end with the same tokens.
FEEDS = (
    *("", "--chunk 1", "--prompt 2 --teacher", "--chunk 4", "--level fused", "--prompt 6"),
    *("--level tiled", "--level tiled --tiles test --chunk 2"),
)


@pytest.mark.parametrize("case", CONFIGS[:3])
def test_every_way_of_feeding_gives_the_same(case, run):
    feeds = FEEDS[::2] if case == "deepseek_v4" else FEEDS
    first, *others = (run(case, f"--tokens FILES/tokens.txt {feed}") for feed in feeds)
    for other in others:
        assert other.keys() == first.keys()
        assert np.array_equal(other["tokens"], first["tokens"])
        np.testing.assert_allclose(other["logits"], first["logits"], atol=TOLERANCE, rtol=0)


def test_decoding_is_what_the_logits_say(run):
    held = run("llama", "--tokens FILES/tokens.txt --prompt 4 --decode 5")
    assert held["lengths"].tolist() == [4 + 4, 3 + 4], "the last token is not fed"
    for row, start in ((0, 4), (1, 3)):
        best = held["logits"][row, start - 1 : start + 4].argmax(-1)
        assert held["tokens"][row, start : start + 5].tolist() == best.tolist()
    fed = held["tokens"][:, :-1]
    again = run("llama", "--tokens FILES/tokens.txt --prompt 4")
    np.testing.assert_allclose(
        again["logits"][:, :3], held["logits"][:, :3], atol=TOLERANCE, rtol=0
    )
    assert fed.shape == (2, 8)


def test_no_decoding_past_the_context(run):
    held = run("llama", "--tokens FILES/tokens.txt --decode 250")
    assert held["tokens"].shape == (2, 256)


def test_traces_by_name_and_pins(run, tmp_path):
    name = "layers.1.ffn.router.chosen"
    tokens = "--tokens FILES/tokens.txt"
    held = run("deepseek_v3", f"{tokens} --trace 'layers.*.ffn.router.chosen, layers.0.mid'")
    traced = sorted(held.keys() - {"logits", "lengths", "tokens"})
    assert traced[0] == "layers.0.mid"
    assert all(key.endswith("router.chosen") for key in traced[1:])
    assert held[name].dtype == np.int32
    assert held[name].shape[:2] == (2, 6)
    assert (held[name][1, 3:] == -1).all()
    # A pin of what was chosen changes nothing; another one does.
    pin = tmp_path / "pin.npz"
    np.savez(pin, **{name: held[name]})
    same = run("deepseek_v3", f"{tokens} --pin {pin}")
    assert np.array_equal(same["logits"], held["logits"], equal_nan=True)
    np.savez(pin, **{name: np.roll(held[name][:1], 1, axis=1)})
    other = run("deepseek_v3", f"{tokens} --pin {pin} --trace '{name}'")
    assert not np.array_equal(other["logits"], held["logits"], equal_nan=True)
    assert np.array_equal(other[name][0, 1:], held[name][0, :-1])


def test_a_traced_value_replaces_no_output(run):
    held = run("llama", "--tokens FILES/tokens.txt --trace '*'")
    plain = run("llama", "--tokens FILES/tokens.txt")
    assert np.array_equal(held["logits"], plain["logits"], equal_nan=True)
    assert len(held) > 20


def test_the_file_is_reproducible(run, tmp_path):
    contents = []
    for _ in range(2):
        options = "--tokens FILES/tokens.txt --decode 3 --draft --trace '*.mid'"
        run("deepseek_v4_deployed", options)
        contents.append((tmp_path / "out.npz").read_bytes())
    assert contents[0] == contents[1]


def test_the_summary_is_true(run, capsys):
    run("llama", "--tokens FILES/tokens.txt --prompt 4 --decode 3 --trace 'layers.0.*'")
    held = run("llama", "--tokens FILES/tokens.txt --prompt 4 --decode 3")
    output = capsys.readouterr().out
    first = output.splitlines()
    assert first[0].startswith("2 sequences, 11 tokens fed in ")
    assert first[0].endswith(" s, numerics reference, level graph")
    assert first[1] == "  logits [2, 6, 128]"
    assert first[2] == "  shorter than --prompt 4, so all prompt: sequence 1 (3 tokens)"
    assert first[3] == "  sequence 0: " + " ".join(map(str, held["tokens"][0, 4:7]))
    assert first[4] == "  sequence 1: " + " ".join(map(str, held["tokens"][1, 3:6]))
    assert first[5].startswith("  traced: layers.0.")
