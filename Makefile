# `make demo` and `make test` install what they need the first time and start at once the second.

# PYTHON=...: the Python of .venv; without it the newest from 3.11 to 3.14 that can make one.
# TORCH_INDEX=: torch from pip's own index, which brings CUDA on Linux, even where PyTorch's CPU index answers.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP := $(BIN)/python -m pip install --quiet
CLIP := build/clip.wav

.PHONY: demo test test-long test-anywhere fuzz check docs results train lock check-lock clean

demo: .venv/installed
	$(BIN)/satexport onnx --model sat-t --delay 2 --checkpoint demo
	$(BIN)/satexport parity build/sat-t-2s/onnx
	$(BIN)/python examples/make_clip.py $(CLIP)
	$(BIN)/satexport run build/sat-t-2s/onnx $(CLIP)

# On all cores, four at most (each takes a gigabyte); a file of tests stays in one process, which shares its bundles.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile
test: .venv/installed
	$(BIN)/pytest $(PARALLEL)

# What only a full-size model or hours can show; prints how long each part took. PART=NAME: those whose test or file
# is called so, such as PART=test_graph or PART=a_day_of_a_targets_stream.
test-long: .venv/installed
	OMP_NUM_THREADS=$$($(BIN)/python -c 'import os; print(os.cpu_count())') \
		$(BIN)/pytest -m long -s -v $(if $(PART),-k '$(PART)')

# The suite as other machines run it: without bf16, home, settings or any language, in another order (its seed is
# printed); and on one core beside others that are all busy.
test-anywhere: .venv/installed
	env -u HOME -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_DATA_HOME LC_ALL=C LANG=C PYTHONUTF8=0 \
		SATEXPORT_TEST_WITHOUT=bf16,amx COLUMNS=40 TERM=dumb $(BIN)/pytest $(PARALLEL) --random-order
	$(BIN)/python tests/busy.py taskset -c 0 $(BIN)/pytest $(PARALLEL)

# Doubtful files of every kind that satexport reads (docs/fuzzing.md), and the property tests with other examples.
# The seed is new and printed, or SEED=7. Tries COUNT inputs, COMMANDS of them also by the command line, and stops
# after SECONDS.
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

# The results of this CPU in docs/results again, an hour on a machine that does nothing else.
results: .venv/installed
	$(BIN)/python -m benchmarks.results

# The demo checkpoint again, from ESC-10 in ESC-50 layout: make train DATA=../shared/esc10
train: .venv/installed
	$(BIN)/python training/train_demo.py --data $(DATA)

# The pins of requirements.lock (with hashes) and constraints.txt (without) again, from pyproject.toml. They stay
# where they still fit; UPGRADE=--upgrade moves all of them on, UPGRADE='--upgrade-package numpy' one.
UV := build/uv/bin/uv
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.10 --no-python-downloads \
	--no-annotate --custom-compile-command 'make lock' --extra all --group dev pyproject.toml
lock: $(UV)
	$(COMPILE) $(UPGRADE) --extra openvino --output-file constraints.txt
	$(COMPILE) --constraint constraints.txt --generate-hashes --no-emit-package torch --output-file requirements.lock

# A wheel for every pin on every system that README names? Nothing is installed.
check-lock: .venv/installed $(UV)
	$(BIN)/python tools/check_lock.py $(UV)

$(UV):
	python=$$(sh tools/find-python.sh $(if $(PYTHON),"$(PYTHON)")) && "$$python" -m venv --clear build/uv
	build/uv/bin/python -m pip install --quiet uv==0.13.9

# Complete or not there: the stamp is written last. setuptools goes first, since pip would fetch another one, without
# looking at hashes, to build what is a source package (TensorRT for RTX).
.venv/installed: requirements.lock constraints.txt pyproject.toml
	python=$$(sh tools/find-python.sh $(if $(PYTHON),"$(PYTHON)")) && "$$python" -m venv --clear .venv
	sed -n '/^setuptools==/,/[^\]$$/p' requirements.lock > .venv/setuptools.lock
	$(PIP) --require-hashes --no-deps -r .venv/setuptools.lock
	$(PIP) --require-hashes --no-deps --no-build-isolation -r requirements.lock
	$(BIN)/python tools/install_torch.py "$(TORCH_INDEX)"
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv build

# Write the generated parts of docs/ again: help, targets, models, definitions.
docs: .venv/installed
	$(BIN)/python tools/make_docs.py
