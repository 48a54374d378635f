# Every target makes its own virtual environment first; nothing has to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.kemu-run
DEV_STAMP := $(VENV)/.kemu-dev
JOBS ?= 2

.PHONY: demo test test-long lint images check-images bench clean

demo: $(RUN_STAMP)
	@$(BIN)/kemu demo

test: lint check-images
	$(BIN)/python -m pytest -n $(JOBS) -m "not long"

test-long: $(DEV_STAMP)
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(DEV_STAMP)
	$(BIN)/ruff check arch kernel_model emu images tests
	$(BIN)/mypy

images: $(DEV_STAMP)
	$(BIN)/python -m images.build

check-images: $(DEV_STAMP)
	$(BIN)/python -m images.build --check

bench: $(RUN_STAMP)
	$(BIN)/python -m emu.bench

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build kemu.egg-info

$(RUN_STAMP): pyproject.toml .ci/venv
	sh .ci/venv $(PYTHON) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(DEV_STAMP): $(RUN_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@
