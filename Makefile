# Everything runs in .venv, from pinned versions. `make bench` and `make test` set up what they need.
PYTHON ?= python3
BENCH := .venv/bin/bench

.PHONY: setup bench test lint clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[offline,test]"
	touch $@

# The main job on data and models that need no download.
bench: setup
	$(BENCH) run --suite mini --models "minilm,bag-of-words,random" --offline
	$(BENCH) report --output reports

test: setup
	.venv/bin/python -m pytest -n 2

lint: setup
	.venv/bin/python -m pip install --quiet --constraint constraints.txt ruff mypy pandas-stubs scipy-stubs
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

clean:
	rm -rf .venv build dist *.egg-info
