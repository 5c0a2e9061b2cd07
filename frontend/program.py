"""A model file and what it imports, as one set of named definitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from supertile.frontend import syntax
from supertile.frontend.parse import read_model_file
from supertile.ir.errors import Spot, UserError

IMPORT_LIMIT = 32  # files
LAYERS = "layers"  # the config name of their number
SUFFIX = ".st"


@dataclass
class Program:
    """Definitions by name, in the order of the text."""

    path: str
    model: syntax.Model | None = None
    dialect: syntax.Name | None = None
    """Whose keys Python reads before the lines of the config section."""
    layers: syntax.Bind | None = None
    """How many layers there are; without it, `num_hidden_layers`."""
    binds: dict[str, syntax.Bind] = field(default_factory=dict)
    requires: list[syntax.Require] = field(default_factory=list)
    tables: dict[str, syntax.Table] = field(default_factory=dict)
    formats: dict[str, syntax.Format] = field(default_factory=dict)
    blocks: dict[str, syntax.Block] = field(default_factory=dict)
    entries: dict[str, syntax.Block] = field(default_factory=dict)
    defined: dict[str, Spot] = field(default_factory=dict)

    def define(self, name: str, where: Spot) -> None:
        """Claim a name; a name has one meaning in a program."""
        if name in self.defined:
            earlier = place(self.defined[name])
            raise UserError("language.defined_twice", where, name=name, earlier=earlier)
        self.defined[name] = where


def place(where: Spot) -> str:
    return f"line {where.line} of {Path(where.file).name}"


def load_program(path: Path) -> Program:
    """Read a model file and its imports, depth first, each file once."""
    return _collect(read_model_file(path), path)


def program_of(model: syntax.ModelFile, path: Path | None = None) -> Program:
    """The program of a parsed text; imports are relative to `path`."""
    return _collect(model, path or Path(model.path))


def _collect(model: syntax.ModelFile, path: Path) -> Program:
    program = Program(str(path))
    _add_file(program, model, path, [path.resolve()], set())
    if program.model is None:
        raise UserError("language.no_model", Spot(str(path), 1, 1))
    if not program.entries:
        raise UserError("language.no_entry", Spot(str(path), 1, 1))
    return program


def _add_file(
    program: Program, model: syntax.ModelFile, path: Path, open_files: list[Path], done: set[Path]
) -> None:
    for item in model.items:
        if isinstance(item, syntax.Import):
            _add_import(program, item, path, open_files, done)
        else:
            _add(program, item, is_main=len(open_files) == 1)


def _add_import(
    program: Program, item: syntax.Import, path: Path, open_files: list[Path], done: set[Path]
) -> None:
    target = _file(path.parent, item, Path(program.path).parent.resolve())
    if target in open_files:
        raise UserError("language.import_cycle", item.where, file=item.file.value)
    if target in done:
        return
    done.add(target)
    if len(done) > IMPORT_LIMIT:
        raise UserError("language.imports", item.where, limit=IMPORT_LIMIT)
    _add_file(program, read_model_file(target), target, [*open_files, target], done)


def _file(folder: Path, item: syntax.Import, top: Path) -> Path:
    """The model file that an import names: below the folder of the main file, links resolved.

    What lies elsewhere is not read, so that no error can quote it.
    """
    try:
        target = (folder / item.file.value).resolve()
        exists = target.is_file()
    except (OSError, ValueError, RuntimeError):  # names that no file can have, circles of links
        raise UserError("language.import_missing", item.file.where, file=item.file.value) from None
    if not target.is_relative_to(top) or (exists and target.suffix != SUFFIX):
        raise UserError("language.import_outside", item.file.where, file=item.file.value)
    if not exists:
        raise UserError("language.import_missing", item.file.where, file=item.file.value)
    return target


def _add(program: Program, item: syntax.TopLevel, is_main: bool) -> None:
    match item:
        case syntax.Model():
            if is_main and program.model is not None:
                raise UserError("language.model_twice", item.where)
            program.model = item if is_main else program.model
        case syntax.Config():
            _add_config(program, item)
        case syntax.Table():
            program.define(item.name, item.where)
            program.tables[item.name] = item
        case syntax.Format():
            program.define(item.name, item.where)
            program.formats[item.name] = item
        case syntax.Block(entry=True):
            program.define(item.name, item.where)
            program.entries[item.name] = item
        case syntax.Block():
            program.define(item.name, item.where)
            program.blocks[item.name] = item


def _add_config(program: Program, config: syntax.Config) -> None:
    if config.dialect is not None:
        if program.dialect is not None and program.dialect.name != config.dialect.name:
            earlier = place(program.dialect.where)
            name = "dialect"
            raise UserError("language.defined_twice", config.where, name=name, earlier=earlier)
        program.dialect = config.dialect
    for line in config.lines:
        if isinstance(line, syntax.Require):
            program.requires.append(line)
            continue
        if line.name == LAYERS and program.layers is None:
            program.layers = line
            continue
        program.define(line.name, line.where)
        program.binds[line.name] = line
