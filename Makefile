# `make demo` and `make test` set up everything that they need on a fresh machine (Python >= 3.11, git, make).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-slurm test-wheel test-browser lint mutation fuzz bench studies clean

demo: $(READY)
	$(BIN)/python train.py experiment=han2025_dynamics hydra.sweep.dir=multirun/demo
	$(BIN)/python analyze.py path=multirun/demo
	$(BIN)/python train.py experiment=digits_stages noise.rate=0.2,0.4 'seed=range(3)' hydra.sweep.dir=multirun/demo_digits
	$(BIN)/python analyze.py path=multirun/demo_digits

test: $(READY)
	$(BIN)/python -m pytest -n auto

# The notebook, the minimal example, directories that are damaged or made to do harm, and what trains or is killed for long.
test-slow: $(READY)
	$(BIN)/python -m pytest -n auto -m slow

# Ten thousand random command lines: see tests/fuzz/.
fuzz: $(READY)
	$(BIN)/python -m tests.fuzz.inputs 10000

test-slurm: $(READY)
	$(BIN)/python -m pytest -m slurm tests/slurm

# The wheel in an empty environment: its commands, a sweep from another directory.
test-wheel: $(READY)
	$(BIN)/python -m pytest -m wheel tests/test_wheel.py

# The page of an analysis in Chromium; without one these tests are skipped: apt-get install chromium
test-browser: $(READY)
	$(BIN)/python -m pytest -m browser -rs tests/test_report_browser.py

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Which faults the tests would notice: see CONTRIBUTING.md. Goes on where an earlier call was stopped.
mutation: $(READY)
	nice $(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results
	$(BIN)/python -m benchmarks.mutation

# The second line: whether the scorecard's verdicts depend on the seeds.
bench: $(READY)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.scorecard

studies: $(READY)
	$(BIN)/python docs/draw.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), f'Python >= 3.11 is needed, {sys.executable} is {sys.version}'"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable . --group dev
	touch $@

clean:
	rm -rf $(VENV) mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis
