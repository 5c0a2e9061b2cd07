"""The model file that a config of the tests goes with."""

from pathlib import Path
from typing import Protocol

from supertile.frontend.shipped import shipped_model


class OfFamily(Protocol):
    @property
    def family(self) -> str: ...


def model_for(config: OfFamily) -> Path:
    """The shipped model file of the config's `model_type`."""
    path = shipped_model(config.family)
    assert path is not None, config.family
    return path
