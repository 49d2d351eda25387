# Every target sets up what it needs; `make bench` and `make test` work as the first command on a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= ort,litert,vela,cuda,dev
TARGET ?= cpu
SUITE ?= default
RESULTS ?= results
STAMP := $(VENV)/.stamp-setup

.PHONY: setup bench report test check perf papers gpu arm onnx2tf clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pressbench needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -rf pressbench.egg-info # a stale one in the working folder hides new entry points
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

bench: setup
	$(BIN)/pressbench run --target $(TARGET) --suite $(SUITE) --results $(RESULTS)
	$(BIN)/pressbench report --results $(RESULTS)

report: setup
	$(BIN)/pressbench report --results $(RESULTS)

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

perf: setup
	$(BIN)/python -m tools.perf

papers: setup
	$(BIN)/python -m tools.papers

# The emulated ARM board, once: apt packages and wheels by digest into one folder, no root.
arm: setup
	$(BIN)/python -m bench.reach.arm.setup

# What turns ONNX files into .tflite, in a folder of its own: its pins clash with the runtimes'.
onnx2tf: setup
	$(BIN)/python -m backends.tflite.from_onnx

gpu: setup
	$(BIN)/python -m tools.perf.gpu --out out/gpu-report

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
