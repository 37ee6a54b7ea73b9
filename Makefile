# make demo   masks for real pictures, offline once installed; look at out/demo/index.html
# make test   the fast tests            make lint   format, lint and types
PYTHON ?= python3
VENV   ?= .venv
DEMO   ?= out/demo
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test lint clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.installed-demo
	$(BIN)/seggpt demo -o $(DEMO) --overwrite

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --dist loadfile \
		--no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

clean:
	rm -rf out build dist .cache .pytest_cache .ruff_cache .hypothesis

# A stamp is older than pyproject.toml only if what must be installed may have changed.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[$*]'
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
