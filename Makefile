# The commands of README.md and CONTRIBUTING.md. Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(abspath $(VENV))/bin
CONSTRAINTS := infra/constraints/cpu.txt
# Where torch alone is taken from, first: PyTorch's CPU builds, where pip's own index has those with CUDA.
TORCH_INDEX ?=
export PATH := $(BIN):$(PATH)
export OMP_NUM_THREADS := 1
unexport PYTHONDONTWRITEBYTECODE # set in many images: every process would compile torch and Ray anew

.PHONY: demo experiment check test mutants soak battery rehearse lint type format install browser object-store bench clean audit-dependencies licences

demo: install ## make a dataset and its report under runs/demo; again: resume
	@infra/local/demo.sh runs/demo

check: install ## the first answer, in seconds: lint, types, the architecture and the tests of what changed since main
	python -m tests.changed

test: install browser object-store ## the whole suite, fast tests first
	pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder tests/unit # or files of one long test come last
	pytest -n 2 --dist loadgroup --no-loadscope-reorder tests/e2e tests/cluster # each process has a Ray for most of its tests

mutants: install ## twenty-three deliberate breaks in copies of the tree, each of which must fail the suite
	python -m tests.mutants

soak: install object-store ## twenty random faults on one run, in about six minutes; SOAK_SEED=N repeats an order
	pytest -m slow -s tests/e2e/test_soak.py

battery: install object-store ## hostile input and faults that take minutes: bounded, seeded, on loopback; BATTERY_SEED=N repeats one
	pytest -s tests/battery

rehearse: install object-store ## 6.4 million images planned, a thousand shards drawn at no cost, all indexed: memory and times
	python -m tests.benchmarks.bench_rehearsal

experiment: install ## which identities train the better student? In the toy world, under an hour on two cores; resumes
	python -m jobs.experiment jobs/configs/toy_experiment.yaml run.dir=runs/experiment

lint: install
	ruff check . && ruff format --check .

type: install
	mypy

format: install
	ruff format . && ruff check --fix .

bench: install ## the records of tests/benchmarks/results/: about an hour on a machine with nothing else to do
	python -m tests.benchmarks.bench_suite
	python -m tests.benchmarks.bench_pipeline
	python -m tests.benchmarks.bench_shards
	python -m tests.benchmarks.bench_export
	python -m tests.benchmarks.bench_plan
	python -m tests.benchmarks.bench_plan --alone
	python -m tests.benchmarks.bench_generator
	python -m tests.benchmarks.bench_training
	python -m tests.benchmarks.bench_audit
	python -m tests.benchmarks.bench_vec2face sampling
	python -m tests.benchmarks.bench_vec2face generator
	python -m tests.benchmarks.bench_vec2face generator small=1
	python -m tests.benchmarks.bench_vec2face control
	env -u OMP_NUM_THREADS python -m tests.benchmarks.bench_packing
	env -u OMP_NUM_THREADS python -m tests.benchmarks.bench_audit

audit-dependencies: $(VENV)/.audit ## known vulnerabilities of the frozen dependencies; asks PyPI, and fails where it cannot
	pip-audit --strict --no-deps --disable-pip --requirement $(CONSTRAINTS)

licences: $(VENV)/.audit ## of everything that is installed
	pip-licenses --from=mixed --order=license --with-urls

install: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --no-compile --constraint $(CONSTRAINTS) $(addprefix --extra-index-url=,$(TORCH_INDEX)) torch
	pip install --quiet --no-compile --constraint $(CONSTRAINTS) --editable '.[dev]'
	@touch $@

$(VENV)/.audit: $(VENV)/.installed
	pip install --quiet --no-compile --constraint $(CONSTRAINTS) --editable '.[audit]'
	@touch $@

browser: ## the report is tested in a real one
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium; }

object-store: ## the tests of storage talk to a real S3 server, unpacked beside the system
	@infra/local/object_store.sh fetch

clean: ## removes .venv; runs stay
	rm -rf $(VENV)
