# Every target sets up what it needs; nothing is installed into the system. `make` lists the targets.

PYTHON ?= $(shell command -v python3.11 || echo python3)
GPU ?=
ARGS ?=

BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test bench setup lint format lock job-server clean

help: ## list the targets
	@echo "Usage: make TARGET [ARGS='...'] [PYTHON=/path/to/python3.11] [GPU=1]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "PYTHON defaults to python3.11 on PATH; GPU=1 installs TensorFlow with CUDA (Linux)."

run: setup ## run the pipeline: alexnet run $(ARGS)
	@$(BIN)/alexnet run $(ARGS)

test: setup ## run the tests: pytest $(ARGS)
	@$(BIN)/python -m pytest $(ARGS)

bench: setup ## measure speed and accuracy, as ratios to other ways: python -m benchmarks $(ARGS)
	@$(BIN)/python -m benchmarks $(ARGS)

setup: ## make .venv from the lock, unless it is up to date
	@$(find-python) && "$$python" -m environment.bootstrap $(if $(filter-out 0 no,$(GPU)),--gpu)

lint: setup ## check the code, its formatting, its types, and whether what it imports is declared
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/deptry .

format: setup ## format the code, and mend what ruff can
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock: ## resolve the locks anew from pyproject.toml; ARGS=--upgrade for the newest versions
	@$(find-python) && "$$python" -m environment.lock $(ARGS)

job-server: ## build Beam's job server for ENGINE=flink or ENGINE=spark, once; needs Maven and Java
	@$(find-python) && "$$python" -m environment.job_server $(ENGINE)

clean: ## remove .venv, .python and caches; runs, data and pushed models stay
	@rm -rf .venv .python .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# Sets the shell's python to the interpreter itself (PYTHON may be a launcher such as pyenv's), or says what is missing.
define find-python
python=$$($(PYTHON) -c 'import sys; print(sys.executable if sys.version_info[:2] == (3, 11) else "")' 2>/dev/null); \
if [ -z "$$python" ]; then \
  echo 'setup: Python 3.11 is needed and $(PYTHON) is not it: install it and name it with make PYTHON=/path/to/python3.11.' >&2; \
  exit 2; \
fi
endef
