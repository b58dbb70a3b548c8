PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BASE_STAMP := .venv/.base-installed
PIP = PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check

RELEASE_STAMP := .venv-release/.installed
BENCH_STAMP := .venv-bench/.installed
PEERS := keras 'jax[cpu]' skorch lightning torchinfo fvcore
BENCHES := summary whole_command fashion_epoch augmentation cifar_resnet18 photo_loading media photos resnet50_inference plan_choice plan_regret busy \
	minutes allocator step_overhead step_ways store_scaling scaling processes reliability
BENCHES_LONG := speedrun gpu
BENCH ?= $(BENCHES)

# Compiled modules are kept: a hundred tests start a program of their own.
export PYTHONDONTWRITEBYTECODE =

.PHONY: install demo test test-all test-gpu lint check format bench bench-long pins release clean

install: $(STAMP)

# Redone only when what is installed would change.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e '.[dev]'
	$(BIN)/python -m compileall -q src
	@touch $@ $(BASE_STAMP)

# What the program needs to run, without the developers' tools.
$(BASE_STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	$(BIN)/python -m compileall -q src
	@touch $@

demo: $(BASE_STAMP)
	@GOMP_SPINCOUNT=1000 $(BIN)/python examples/first_run.py # threads that share busy cores

# In a fresh checkout mypy keeps one core busy for a minute and more: it runs beside the tests, and prints at the end.
define types_beside_tests
@types=$$(mktemp); $(BIN)/mypy > $$types 2>&1 & \
$(BIN)/python -m pytest -n 2 --dist worksteal $(1); tests=$$?; \
wait $$!; typed=$$?; cat $$types; rm $$types; exit $$((tests | typed))
endef

test: lint
	$(types_beside_tests)

test-all: lint
	$(call types_beside_tests,-m 'slow or not slow')

# On a machine with a GPU, with the torch that goes with it; needs no other setting.
test-gpu: install
	STRIATE_TEST_DEVICE=cuda $(BIN)/python -m pytest tests/gpu

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

check: lint
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One after the other, or some: make bench BENCH="fashion_epoch busy". docs/performance.md names what was not measured.
# Without the peers' environment (offline, say) our own serves, and the benchmarks say which peer is missing.
bench: install $(BENCH_STAMP)
	@python=$$(test -e $(BENCH_STAMP) && echo .venv-bench/bin/python || echo $(BIN)/python); \
	for name in $(BENCH); do \
		echo "== $$name"; \
		$$python benchmarks/$$name.py $(BENCH_OPTIONS) || echo "== $$name failed"; \
	done; \
	$$python benchmarks/write_performance.py

bench-long:
	@$(MAKE) bench BENCH="$(BENCHES_LONG)"

# An environment of its own, so that no peer comes near ours.
$(BENCH_STAMP): pyproject.toml constraints.txt benchmarks/constraints.txt
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@export PIP_CONSTRAINT=benchmarks/constraints.txt; pip=".venv-bench/bin/python -m pip install --quiet --disable-pip-version-check"; \
	if $$pip -e '.[openvino,sweep,audio,clips,instruments,volumes]'; then \
		for peer in $(PEERS); do $$pip "$$peer" || echo "missing: $$peer cannot be installed"; done; \
		touch $@; \
	else \
		echo "the peers' environment cannot be made; the benchmarks run without it"; \
	fi

# What the program needs to run, with the hash of every file of it, for each system: from pyproject.toml, in the versions
# of constraints.txt.
pins: $(RELEASE_STAMP)
	.venv-release/bin/uv pip compile pyproject.toml --constraint constraints.txt --universal --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --quiet --output-file constraints-hashed.txt

# The wheel, and beside it the list of all that it needs, with hashes (CycloneDX).
release: $(RELEASE_STAMP)
	PIP_CONSTRAINT=constraints.txt .venv-release/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	.venv-release/bin/cyclonedx-py requirements constraints-hashed.txt --pyproject pyproject.toml \
		--output-reproducible --output-file dist/sbom.cdx.json

$(RELEASE_STAMP):
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet --disable-pip-version-check uv cyclonedx-bom
	@touch $@

clean:
	rm -rf .venv .venv-bench .venv-release .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
