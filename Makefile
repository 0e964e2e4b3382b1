# Two commands: `make demo` shows what the program does, `make test` proves it.
PYTHON ?= python3
BIN := .venv/bin
SEED ?= 0
WORKERS ?= 2

.PHONY: demo test lint docs format bench-graphs bench-unroll test-app man clean

demo: .venv/installed
	$(BIN)/python -m apps.style_transfer demo --out out

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict -p unroll -p graphs -p apps

docs: .venv/documents
	$(BIN)/python -m sphinx -W --keep-going -b html docs out/docs
	@echo "the documents are in out/docs/index.html"

bench-graphs: .venv/installed
	$(BIN)/python benchmarks/laplacians.py

test-app: .venv/installed
	$(BIN)/python benchmarks/trust.py --seed $(SEED)

bench-unroll: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/unrolled.py

man: .venv/installed
	mkdir -p out
	$(BIN)/argparse-manpage --module apps.style_transfer.cli --function build_parser --format single-commands-section \
		--project-name unroll-style --manual-title "unroll-style" --output out/unroll-style.1
	@echo "man -l out/unroll-style.1 shows it"

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
