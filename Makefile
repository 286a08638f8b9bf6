# `make demo` and `make test` install what they need the first time and start at once the second.

PYTHON ?= python3.11
BIN := .venv/bin
CLIP := build/clip.wav

.PHONY: demo test test-long check results train lock clean

demo: .venv/installed
	$(BIN)/satexport onnx --model sat-t --delay 2 --checkpoint demo
	$(BIN)/satexport parity build/sat-t-2s/onnx
	$(BIN)/python examples/make_clip.py $(CLIP)
	$(BIN)/satexport run build/sat-t-2s/onnx $(CLIP)

test: .venv/installed
	$(BIN)/pytest

test-long: .venv/installed
	$(BIN)/pytest -m long -s

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/mypy

# The results table in README again: three quarters of an hour on a machine that does nothing else.
results: .venv/installed
	$(BIN)/python benchmarks/results.py

# The demo checkpoint again, from ESC-10 in ESC-50 layout: make train DATA=../shared/esc10
train: .venv/installed
	$(BIN)/python training/train_demo.py --data $(DATA)

lock: .venv/installed
	$(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/+cpu$$//' > requirements.new
	(grep '^#' requirements.lock; cat requirements.new) > requirements.all
	mv requirements.all requirements.lock; rm requirements.new

# Complete or not there: the stamp is written last.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv build
