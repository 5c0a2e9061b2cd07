"""Fixtures of the tests of what users met."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples of a property: a folder for each would take most of the time."""
    return tmp_path_factory.mktemp("examples")
