# Every target sets up what it needs; `make bench` and `make test` work as the first command on a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= ort,litert,vela,cuda,ssh,adb,postgres,parquet,dev
TARGET ?= cpu
SUITE ?= default
RESULTS ?= results
WORKERS ?= 2
STAMP := $(VENV)/.stamp-setup
LOG := $(VENV)/setup.log
PYTEST := $(BIN)/python -m pytest
COV = $(if $(COVERAGE),--cov --cov-append --cov-report=)

.PHONY: setup bench nightly report test test-all coverage check wheel perf perf-stats search-bench fleet-bench papers cases cases-fast gpu arm fpga onnx2tf clean

setup: $(STAMP)

# pip's output goes to a log; it is shown when pip fails.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pressbench needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "Setting up $(VENV) with [$(EXTRAS)]: one to ten minutes once, most of it downloading PyTorch (log: $(LOG))"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@rm -rf pressbench.egg-info # a stale one in the working folder hides new entry points
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]' >$(LOG) 2>&1 || { cat $(LOG); exit 1; }
	@touch $@

bench: setup
	$(BIN)/pressbench run --target '$(TARGET)' --suite '$(SUITE)' --results '$(RESULTS)'

# One night: run, measure changed files again, judge, report; NIGHTLY holds further options.
nightly: setup
	$(BIN)/pressbench nightly --target '$(TARGET)' --suite '$(SUITE)' --results '$(RESULTS)' $(NIGHTLY)

report: setup
	$(BIN)/pressbench report --results '$(RESULTS)'

# Tests marked `solo` measure this machine: they run after the others, one at a time.
test: setup
	$(PYTEST) $(COV) -n $(WORKERS) --dist loadfile -m 'not solo and not slow'
	$(PYTEST) $(COV) -m 'solo and not slow'

test-all: test
	$(PYTEST) $(COV) -m slow

coverage: setup
	$(BIN)/coverage erase
	$(MAKE) test-all COVERAGE=1
	$(BIN)/coverage report

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.device_code
	$(BIN)/python -m tools.shape
	$(BIN)/python -m tools.language

# Installs the built wheel into a fresh environment and runs it.
wheel: setup
	$(BIN)/python -m tools.wheel

perf: setup
	$(BIN)/python -m tools.perf

# What `pressbench regress` detects and how often it is wrong, beside other rules.
perf-stats: setup
	$(BIN)/python -m tools.perf_stats

# The strategies of `pressbench search` with equal time; SEARCH holds further options.
search-bench: setup
	$(BIN)/python -m tools.search_bench $(SEARCH)

# A fleet of doubles whose parts are killed; what must hold is checked in the store; FLEET holds further options.
fleet-bench: setup
	@$(BIN)/python -c 'import distributed' 2>/dev/null || $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[cluster]'
	$(BIN)/python -m tools.fleet_bench $(FLEET)

# What scheduling costs with 10, 100 and 1,000 simulated boards; FLEET_SIM holds further options.
fleet-sim: setup
	$(BIN)/python -m tools.fleet_sim $(FLEET_SIM)

papers: setup
	$(BIN)/python -m tools.papers

# The networks and files built after public bug reports: which come out right.
cases: setup
	$(BIN)/python -m tools.cases

# The quick ones, measured for a moment each, two at a time: CI runs them.
cases-fast: setup
	$(BIN)/python -m tools.cases --fast --jobs 2

# The emulated ARM board, once: apt packages and wheels by digest into one folder, no root.
arm: setup
	$(BIN)/python -m bench.reach.arm.setup

# What turns ONNX files into .tflite, in a folder of its own: its pins clash with the runtimes'.
onnx2tf: setup
	$(BIN)/python -m backends.tflite.from_onnx

# What the target `fpga` needs: a compiler, Verilator and yosys from apt, hls4ml and da4ml from pip. No vendor tool.
fpga: setup
	@command -v g++ >/dev/null && command -v verilator >/dev/null && command -v yosys >/dev/null || { \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); $$sudo apt-get update -qq && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++ make verilator yosys >/dev/null; }
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[fpga]'

gpu: setup
	$(BIN)/python -m tools.perf.gpu --out out/gpu-report

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
