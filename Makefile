# make run | test | lint | screenshots | train | train-pack | probes | exam | bench | bench-live | bench-page | bench-experts | bench-remote | bench-watermark | bench-real | figures | gpu
# Everything happens in .venv, which is made once and refreshed when a requirements file changes.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
TORCH := 2.13.0

.PHONY: run test lint browser servers screenshots train train-pack probes exam bench bench-live bench-page bench-experts bench-remote bench-watermark figures bench-real gpu

run: $(VENV)/run.stamp
	$(PY) app.py $(ARGS)

test: $(VENV)/test.stamp browser servers
	$(PY) -m pytest $(ARGS)

lint: $(VENV)/test.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports

# The browser for the tests of the page; where none can be had the tests say so and are skipped, under CI they fail.
browser: $(VENV)/test.stamp
	@for one in chromium chromium-browser google-chrome; do command -v $$one >/dev/null && exit 0; done; \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
	  || $(PY) -m playwright install chromium \
	  || echo "No browser could be had: the browser tests will be skipped."

# Every tab in every state, into build/screenshots; with ARGS=--publish those of the README too.
screenshots: $(VENV)/test.stamp browser
	PYTHONPATH=.:tests $(PY) tests/browser/screenshots.py $(ARGS)

# The published protocol of two omni servers, without their engines, for the tests that hold our requests against it.
servers: $(VENV)/test.stamp
	@test -d build/servers || $(PY) -m pip install -q --no-deps --target build/servers sglang-omni==0.1.9 \
	  vllm-omni==0.30.0 msgspec msgpack pyzmq xxhash pybase64 || echo "No protocols could be had: their tests will be skipped."

train: $(VENV)/run.stamp
	$(PY) -m omni.primer.training $(if $(SMOKE),--smoke) $(if $(SIZE),--size $(SIZE)) $(if $(PACK),--pack $(PACK)) $(ARGS)

train-pack: $(VENV)/run.stamp
	$(PY) -m omni.primer.training.packing $(ARGS)

# The judges of the exam, from ground truth.
probes: $(VENV)/test.stamp
	for probe in eye motion ear; do $(PY) -m omni.exams.fit_probes $$probe $(ARGS) || exit 1; done

exam: $(VENV)/test.stamp
	$(PY) -m omni.exams $(ARGS)

bench: $(VENV)/test.stamp
	$(PY) -m omni.bench $(ARGS)

bench-live: $(VENV)/test.stamp browser
	$(PY) -m omni.bench.live $(ARGS)

bench-page: $(VENV)/test.stamp browser
	$(PY) -m omni.bench.page $(ARGS)

bench-experts: $(VENV)/bench.stamp
	$(PY) -m omni.bench.policies
	$(PY) -m omni.bench.experts $(ARGS)

bench-watermark: $(VENV)/test.stamp
	$(PY) -m omni.bench.watermark $(ARGS)

bench-remote: $(VENV)/run.stamp
	$(PY) -m omni.bench.remote $(ARGS)

figures: $(VENV)/run.stamp
	$(PY) -m omni.figures $(ARGS)

bench-real: $(VENV)/run.stamp
	$(PY) -m omni.bench.qwen3_omni $(ARGS)

gpu: $(VENV)/test.stamp
	$(PY) -m omni.bench.gpu $(ARGS)

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with: make run PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A torch that is there already (a GPU machine's own build) stays; otherwise the pinned one is installed.
$(VENV)/run.stamp: $(PY) requirements.txt
	$(PY) -c 'import torch' 2>/dev/null || $(PY) -m pip install torch==$(TORCH)
	$(PY) -m pip install -r requirements.txt
	@touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp requirements-test.txt
	$(PY) -m pip install -r requirements-test.txt
	@touch $@

$(VENV)/bench.stamp: $(VENV)/test.stamp requirements-bench.txt
	$(PY) -m pip install -r requirements-bench.txt
	@touch $@
