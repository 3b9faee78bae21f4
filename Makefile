# Two commands matter: `make demo` and `make test`. Both install what they need.

# Tests start hundreds of processes: without bytecode each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

VENV ?= .venv
PY := $(VENV)/bin/python
BIN := $(VENV)/bin
SHAPES := article hostgw
OTHER_SHAPES := hostgw-article port4789 nftables single five

.PHONY: help demo test unit lint packages lab shapes install install-dev format recordings remedies goldens accuracy bench clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

demo: install ## Diagnose the recorded article scenario: no cluster needed
	@$(BIN)/wwwm-doctor demo

test: packages ## Run everything: lint, unit tests, and the lab in two shapes
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory lab

unit: install-dev ## Run the tests that need neither root nor a lab
	$(PY) -m pytest -q -m "not lab" -n 4 --durations=5

packages: install-dev ## Install the lab's Debian packages (root)
	@echo "installing the lab's Debian packages"
	@$(PY) -c 'from tests.lab.packages import ensure; ensure()'

lab: packages ## Break and heal real clusters, one shape after the other (root)
	@echo "== wires: probes in network namespaces, without a cluster"
	$(PY) -m pytest -q -m lab tests/netns --durations=5
	@for shape in $(SHAPES); do \
	  echo "== lab: shape $$shape"; \
	  WWWM_LAB_SHAPE=$$shape $(PY) -m pytest -m "lab and not remedies" tests/lab --durations=30 -o console_output_style=count -v || exit 1; \
	done

shapes: install-dev ## See the healthy clusters of all other shapes (root)
	@for shape in $(OTHER_SHAPES); do \
	  echo "== lab: shape $$shape"; \
	  WWWM_LAB_SHAPE=$$shape $(PY) -m pytest -m lab -v \
	    tests/lab/test_isolation.py tests/lab/test_reboot.py tests/lab/test_healed.py || exit 1; \
	done

lint: install-dev ## Check style, types, layers, dead code and docstrings
	$(BIN)/ruff format --check doctor checks tests
	$(BIN)/ruff check doctor checks tests
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/interrogate -q doctor checks

format: install-dev ## Format the code
	$(BIN)/ruff format doctor checks tests
	$(BIN)/ruff check --fix doctor checks tests

recordings: install-dev ## Record the demo's bundles anew in the lab (root)
	$(PY) -m tests.lab.record

remedies: install-dev ## Run what is printed for the faults that stand for all, in the lab (root)
	$(PY) -m pytest -m remedies tests/lab/test_faults.py -o console_output_style=count -v

goldens: install-dev ## Record the evidence of every fault anew in the lab (root; an hour or two)
	@for shape in $(SHAPES); do \
	  $(PY) -m tests.lab --shape $$shape up && $(PY) -m tests.lab.goldens && $(PY) -m tests.lab down || exit 1; \
	done

accuracy: install-dev ## Measure how often the doctor is right, and write docs/accuracy.md (root; hours, goes on where it was)
	$(PY) -m tests.lab.accuracy --pairs --also-healthy hostgw-article,port4789,single,five

bench: install-dev ## Time what users wait for, and print ratios to the targets (root)
	$(PY) -m tests.lab.bench

install: $(VENV)/.installed ## Install the tool into a virtual environment

install-dev: $(VENV)/.installed-dev ## Install the tool and all it takes to work on it

# Debian's python3 comes without venv, and a small image without python3.
$(VENV)/.installed: pyproject.toml requirements.txt
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { \
	  [ "$$(id -u)" = 0 ] || { echo "python3 or python3-venv is missing; install it, or run as root" >&2; exit 1; }; \
	  echo "installing python3-venv"; apt-get update -qq && apt-get install -qq -y python3 python3-venv >/dev/null; }
	@echo "installing wwwm-doctor into $(VENV)"
	@python3 -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@echo "installing the tools of development"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean: ## Remove what was installed and built here (the lab's cache stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
