# `make demo` and `make test` install what they need on the first run; later runs reuse the environment.

# PYTHON=...: the Python for .venv; by default the newest of 3.11 to 3.14 that can create a virtual environment.
# TORCH_INDEX= (empty): install torch from pip's default index (with CUDA on Linux) instead of PyTorch's CPU index.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip install --quiet
CLIP := build/clip.wav

# Python keeps what it compiled, in __pycache__: each process of the tests would compile the test modules for 10 s.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-long test-anywhere test-arm fuzz check docs results growth peers paper train lock check-lock clean

demo: .venv/installed
	$(BIN)/satexport onnx --model sat-t --delay 2 --checkpoint demo
	$(BIN)/satexport parity build/sat-t-2s/onnx
	$(BIN)/python examples/make_clip.py $(CLIP)
	$(BIN)/satexport run build/sat-t-2s/onnx $(CLIP)

# A process more than there are cores, at most four (each takes 1 to 1.5 GB). The tests of a file run in one process and share its bundles.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile
test: .venv/installed
	$(BIN)/pytest $(PARALLEL)

# Tests that need a full-size model or hours; prints how long each part took. PART=NAME: only the test or file of that
# name, such as PART=test_graph or PART=a_day_of_a_targets_stream.
test-long: .venv/installed
	OMP_NUM_THREADS=$$($(BIN)/python -c 'import os; print(os.cpu_count())') \
		$(BIN)/pytest -m long -s -v $(if $(PART),-k '$(PART)')

# The test suite under the conditions of other machines: without bf16, VNNI, home folder, settings or locale, and in random
# order (the seed is printed); then on one core while all cores are busy.
test-anywhere: .venv/installed
	env -u HOME -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_DATA_HOME LC_ALL=C LANG=C PYTHONUTF8=0 \
		SATEXPORT_TEST_WITHOUT=bf16,amx,vnni COLUMNS=40 TERM=dumb $(BIN)/pytest $(PARALLEL) --random-order
	$(BIN)/python tests/busy.py taskset -c 0 $(BIN)/pytest $(PARALLEL)

# Run bundles of the demo on emulated ARM CPUs (docs/arm.md): needs Debian's package qemu-user-static and the package
# indexes of Debian and pip. WRITE=--write writes the table of docs/arm.md.
test-arm: .venv/installed
	$(BIN)/python -m tests.arm $(WRITE)

# Fuzzing: malformed files of every kind that satexport reads (docs/fuzzing.md), and the property tests with new
# examples. The seed is random and printed, or set with SEED=7. Tries COUNT inputs, COMMANDS of them also through the
# command line, and stops after SECONDS.
COUNT ?= 2000
COMMANDS ?= 60
SECONDS ?= 900
fuzz: .venv/installed
	seed=$(SEED); [ "$$seed" ] || seed=$$($(BIN)/python -c 'import secrets; print(secrets.randbelow(1 << 32))'); \
	echo "SEED=$$seed"; \
	$(BIN)/pytest -q -m 'hypothesis and not long' --hypothesis-profile=fuzz --hypothesis-seed=$$seed && \
	$(BIN)/python -m tests.fuzz --seed $$seed --count $(COUNT) --commands $(COMMANDS) --seconds $(SECONDS)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Measure this CPU's results in docs/results again: takes an hour on an otherwise idle machine. If it is interrupted, it
# goes on with what is left. ONLY='sat-t-*': only these cases.
results: .venv/installed
	$(BIN)/satexport matrix benchmarks/cases.toml --output build/results $(if $(ONLY),--only '$(ONLY)'); code=$$?; \
		$(BIN)/python -m benchmarks.tables build/results/cases.json && exit $$code

# Measure 1 to 64 streams in one step, for docs/results: takes half an hour on an otherwise idle machine.
growth: .venv/installed
	$(BIN)/python -m benchmarks.growth

# Run satexport and what a user could run instead (ExecuTorch, tract, nncf ...) in turns, and write docs/results/peers:
# takes an hour and 3 GB under build/peers on an otherwise idle machine. MODELS='sat-t vit-s': only these models.
peers: .venv/installed
	$(BIN)/python -m benchmarks.peers --install $(if $(MODELS),--models $(MODELS))

# Write docs/paper.md: the papers' tables with random weights, and the scores of the demo over a recording. Takes 5
# minutes if the exports of an earlier run are in build/paper, and several times that without them.
PAPER := build/paper
paper: .venv/installed
	$(BIN)/python -m benchmarks.paper --make $(PAPER)

# Train the demo checkpoint again, on ESC-10 in ESC-50 layout: make train DATA=../shared/esc10
train: .venv/installed
	$(BIN)/python training/train_demo.py --data $(DATA)

# Write the pins of requirements.lock (with hashes) and constraints.txt (without) again from pyproject.toml. Pins that
# still fit are kept; UPGRADE=--upgrade updates all of them, UPGRADE='--upgrade-package numpy' only one. The files
# benchmarks/peers/*.in have what the environments of peers add; their lock files have the same pins besides.
# benchmarks/triton.in is for the tests with Triton's server, whose environment has nothing of the project's.
UV := build/uv/bin/uv
LOCK = $(UV) pip compile --quiet --universal --python-version 3.10 --no-python-downloads \
	--no-annotate --custom-compile-command 'make lock'
COMPILE = $(LOCK) --extra all --group dev pyproject.toml
lock: $(UV)
	$(COMPILE) $(UPGRADE) --extra openvino --output-file constraints.txt
	$(COMPILE) --constraint constraints.txt --generate-hashes --no-emit-package torch --output-file requirements.lock
	for peer in $(basename $(wildcard benchmarks/peers/*.in)); do \
		$(LOCK) --constraint constraints.txt --generate-hashes --no-emit-package torch $(UPGRADE) \
			$$peer.in --output-file $$peer.lock || exit; \
	done
	$(LOCK) --generate-hashes $(UPGRADE) benchmarks/triton.in --output-file benchmarks/triton.lock

# Check that every pin has a wheel on every system in docs/install.md. Installs nothing.
check-lock: .venv/installed $(UV)
	$(BIN)/python tools/check_lock.py $(UV)

$(UV):
	python=$$(sh tools/find-python.sh $(if $(PYTHON),"$(PYTHON)")) && "$$python" -m venv --clear build/uv
	build/uv/bin/python -m pip install --quiet uv==0.13.9

# The stamp file is written last, so an incomplete environment is rebuilt. setuptools is installed first; otherwise pip
# would download another version, without checking hashes, to build source packages (TensorRT for RTX).
.venv/installed: requirements.lock constraints.txt pyproject.toml
	@! [ -L .venv ] || { echo "Error: .venv is a link to $$(readlink .venv), which another checkout may use:" \
		"remove the link, or update the environment there." >&2; exit 2; }
	python=$$(sh tools/find-python.sh $(if $(PYTHON),"$(PYTHON)")) && "$$python" -m venv --clear .venv
	sed -n '/^setuptools==/,/[^\]$$/p' requirements.lock > .venv/setuptools.lock
	$(PIP) --require-hashes --no-deps -r .venv/setuptools.lock
	$(PIP) --require-hashes --no-deps --no-build-isolation -r requirements.lock
	$(BIN)/python tools/install_torch.py "$(TORCH_INDEX)"
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv build

# Write the generated parts of docs/: help texts, targets, models, definitions.
docs: .venv/installed
	$(BIN)/python tools/make_docs.py
