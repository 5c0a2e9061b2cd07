"""What holds for all tests."""

import gc
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings
from pytest import MonkeyPatch, TempPathFactory

from supertile.cli.main import GARBAGE_THRESHOLD

# As the command does: IR is many small objects that live long, and looking for cycles among them as
# often as Python does by default costs a fifth of the time.
gc.set_threshold(GARBAGE_THRESHOLD)

# No property depends on how fast or how busy a machine is, nor on the day that it is tried.
settings.register_profile(
    "test", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("test")


@pytest.fixture(autouse=True)
def own_cache(
    request: pytest.FixtureRequest, tmp_path_factory: TempPathFactory, monkeypatch: MonkeyPatch
) -> None:
    """Answers that other tests, or the user, have kept are not seen."""
    folder = tmp_path_factory.getbasetemp() / "cache" / f"{crc32(request.node.nodeid.encode()):08x}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
