"""What holds for all tests."""

from zlib import crc32

import pytest
from pytest import MonkeyPatch, TempPathFactory


@pytest.fixture(autouse=True)
def own_cache(
    request: pytest.FixtureRequest, tmp_path_factory: TempPathFactory, monkeypatch: MonkeyPatch
) -> None:
    """Answers that other tests, or the user, have kept are not seen."""
    folder = tmp_path_factory.getbasetemp() / "cache" / f"{crc32(request.node.nodeid.encode()):08x}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
