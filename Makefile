# The commands of the project. `make repro` on a fresh clone does everything. Without make, see README.md.
#   make install    make .venv, with everything that the other commands need
#   make repro      install, run the pipeline, print the result
#   make test       all tests except those that need a GPU
#   make test-fast  without the slow, browser and integration tests; of both, TEST_JOBS=4 takes four processes
#   make format     format, and fix what the linter can fix
#   make check      check format, lint and types
#   make coverage   all tests, with coverage of mirip/
#   make docs       write docs/cli.md from the parser
#   make serve      the API on http://127.0.0.1:8000, its description at /docs
#   make ui         the MLflow UI on http://127.0.0.1:5000
#   make sweep      run a small grid of experiments; another one: make sweep GRID="train.seed=42,43 train.dropout=0.1,0.3"
#   make lock       compile requirements*.txt again from pyproject.toml
#   make clean      remove .venv

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
unexport PYTHONDONTWRITEBYTECODE # where it is set, each of many processes would compile every module again

.PHONY: install repro test test-fast check format coverage docs serve ui sweep lock clean

# One worker more than there are processors: tests also wait for servers and other processes. The tests of a file stay on
# one worker, and files are handed out in the order of conftest.py.
TEST_JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PYTEST := python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder

GRID ?= train.learning_rate=0.0001,0.0003 train.loss=logistic,squared train.pair_balance=natural,balanced \
  train.dropout=0.1,0.3 train.seed=42,43
JOBS ?= 2

install: $(VENV)/.installed

repro: $(VENV)/.installed
	dvc repro
	@mirip summary

test: $(VENV)/.installed
	$(PYTEST) -m "not gpu"

test-fast: $(VENV)/.installed
	$(PYTEST)

check: $(VENV)/.installed
	ruff format --check .
	ruff check .
	mypy

format: $(VENV)/.installed
	ruff format .
	ruff check --fix .

coverage: $(VENV)/.installed
	$(PYTEST) -m "not gpu" --cov --cov-report=term --cov-fail-under=96

docs: $(VENV)/.installed
	python -m mirip.cli.reference > docs/cli.md

serve: $(VENV)/.installed
	mirip serve

ui: $(VENV)/.installed
	mirip ui

sweep: $(VENV)/.installed
	mirip sweep --jobs $(JOBS) $(GRID)

lock: $(VENV)/.installed
	uv pip compile pyproject.toml --universal --python-version 3.11 --no-emit-index-url \
	  --custom-compile-command "make lock" -o requirements.txt
	uv pip compile pyproject.toml --extra dev -c requirements.txt --universal --python-version 3.11 --no-emit-index-url \
	  --custom-compile-command "make lock" -o requirements-dev.txt

clean:
	rm -rf $(VENV)

# uv is faster than pip, and always takes a torch and a torchvision that fit together.
$(VENV)/.installed: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make repro PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --compile-bytecode -r requirements-dev.txt
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --no-deps --editable .
	@touch $@
