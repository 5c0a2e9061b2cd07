"""YAML whose mappings have no key twice: PyYAML would take the last of two without a word."""

from __future__ import annotations

from typing import Any

from yaml import MappingNode, SafeLoader
from yaml.constructor import ConstructorError


class UniqueKeyLoader(SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader; a repeated key is a ConstructorError at its place."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for at, key in enumerate(keys):
            if key in keys[:at]:
                mark = node.value[at][0].start_mark
                raise ConstructorError(None, None, f"the key {key} stands twice", mark)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found
