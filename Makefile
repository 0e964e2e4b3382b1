# Two commands: `make demo` shows what the program does, `make test` proves it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs format bench-graphs bench-unroll clean

demo: .venv/installed
	$(BIN)/python -m apps.style_transfer demo --out out

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict -p unroll -p graphs -p apps

docs: .venv/documents
	$(BIN)/python -m sphinx -W --keep-going -b html docs out/docs
	@echo "the documents are in out/docs/index.html"

bench-graphs: .venv/installed
	$(BIN)/python benchmarks/laplacians.py

bench-unroll: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/unrolled.py

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar on --editable '.[dev]'
	touch $@

.venv/documents: .venv/installed
	$(BIN)/python -m pip install --progress-bar on --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv out
