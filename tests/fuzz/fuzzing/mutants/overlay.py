"""A plugin of pytest that puts a changed text in the place of one module, on no disk but its own.

    MUTANT_MODULE=supertile.ir.work MUTANT_TEXT=changed.py pytest -p fuzzing.mutants.overlay ...

The module keeps the file that it is of, so that whatever reads files beside it still finds them.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

MODULE, TEXT = "MUTANT_MODULE", "MUTANT_TEXT"


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Of the changed text; no bytecode of it is kept, and none of the real one is taken."""
        code = compile(Path(os.environ[TEXT]).read_bytes(), self.path, "exec", dont_inherit=True)
        assert isinstance(code, CodeType)
        return code


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != os.environ[MODULE]:
            return None
        for other in sys.meta_path:
            found = None if other is self else other.find_spec(fullname, path, target)
            if found is not None and found.origin is not None:
                loader = _Loader(fullname, found.origin)
                return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)
        return None


if MODULE in os.environ:
    assert os.environ[MODULE] not in sys.modules, "the module is there already"
    sys.meta_path.insert(0, _Finder())
