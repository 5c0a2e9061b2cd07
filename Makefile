# `make demo` and `make test` do all their own set-up, in .venv, from Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
FOLDERS := cli frontend ir models passes runtime targets

.PHONY: demo test lint unit fuzz clean setup

setup: .venv/installed

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Supertile needs Python 3.11 or newer")'
	@$(PYTHON) -m venv .venv
	@echo "installing into .venv; the log is .venv/install.log"
	@$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]' \
		> .venv/install.log 2>&1 || { tail -30 .venv/install.log; exit 1; }
	@mkdir -p .venv/typing/supertile
	@for folder in $(FOLDERS); do ln -sfn ../../../$$folder .venv/typing/supertile/$$folder; done
	@# So that the first command is as quick as the next, also where Python writes no bytecode.
	@$(BIN)/python -m compileall -q $(FOLDERS)
	@touch $@

test: lint unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=.venv/typing $(BIN)/mypy --namespace-packages --explicit-package-bases -p supertile
	MYPYPATH=.venv/typing:tests/fuzz $(BIN)/mypy --namespace-packages --explicit-package-bases -p fuzzing

unit: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Malformed inputs, whole commands and faults in the sources; a second call goes on. docs/fuzz.md
fuzz: setup
	PYTHONPATH=tests/fuzz $(BIN)/python -m fuzzing --seed $(or $(SEED),1) $(if $(MINUTES),--minutes $(MINUTES))

demo: setup
	$(BIN)/python bench/demo.py

clean:
	rm -rf .venv build out *.egg-info
