"""The bar of long work."""

import sys

import pytest

from supertile.cli import progress
from supertile.cli.progress import Bar


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", -1.0)


def test_short_work_shows_nothing(capsys):
    bar = Bar("tokens", 10)
    bar(10)
    bar.close()
    assert bar.shown is None and capsys.readouterr().err == ""


def test_long_work_shows_how_far_it_is(impatient, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = Bar("tokens", 10)
    bar(4)
    shown, task = bar.shown
    bar.close()
    assert shown.tasks[task].completed == 4 and shown.tasks[task].total == 10


def test_work_told_in_all_so_far(impatient, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = Bar("candidates", 100)
    bar.reach(30)
    bar.reach(70)
    shown, task = bar.shown
    bar.close()
    assert shown.tasks[task].completed == 70


def test_no_terminal_no_bar(impatient, capsys):
    bar = Bar("tokens", 10)
    bar(4)
    bar(4)
    bar.close()
    assert bar.shown is None and capsys.readouterr().err == ""


def test_the_bar_appears_before_anything_is_done(impatient, monkeypatch):
    """However long the first part of the work takes, and where nobody knows how much there is."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for total in (10, None):
        bar = Bar("candidates", total)
        bar.timer.join()
        shown, task = bar.shown
        assert (shown.tasks[task].completed, shown.tasks[task].total) == (0, total)
        bar.close()


def test_a_closed_bar_does_not_appear(impatient, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "PATIENCE", 1000.0)
    with Bar("candidates", 10) as bar:
        assert bar.shown is None
    bar._show()
    assert bar.shown is None and bar.timer.finished.is_set()
