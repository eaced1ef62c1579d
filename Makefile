# Two commands matter: `make demo` and `make test`. Both do all their set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv from the machine, else brought through pip into .tools (works where the system Python is managed by Debian).
UV := $(or $(shell command -v uv),.tools/bin/uv)
INSTALL = $(UV) pip install --quiet --python $(BIN)/python

.PHONY: demo test check lint docs web fuzz requirements clean help

help: ## Show the targets.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: $(VENV)/base.stamp ## Find the face in a sample picture, name its emotion, draw both. Offline once installed.
	$(BIN)/python examples/demo.py

test: $(VENV)/dev.stamp ## Run the tests.
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/dev.stamp ## Check style, types and the order of imports.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint test ## What CI runs: style, types, tests, snippets of the docs.

$(VENV)/base.stamp: requirements/base.txt pyproject.toml | $(BIN)/python
	$(INSTALL) --require-hashes --requirements requirements/base.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt pyproject.toml | $(BIN)/python
# Compiled once: else each of the tests' many processes compiles TensorFlow and Keras anew where PYTHONDONTWRITEBYTECODE is set.
	$(INSTALL) --compile-bytecode --require-hashes --requirements requirements/dev.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/base.stamp

$(BIN)/python: | $(UV)
	$(UV) venv --quiet --no-python-downloads --python $(PYTHON) --allow-existing $(VENV)

.tools/bin/uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools uv

docs: $(VENV)/dev.stamp ## Build the documentation as a site, into build/site. Offline once installed; its page try/ wants npm.
	$(BIN)/python tools/reference.py
	$(BIN)/python tools/build_site.py

web: $(VENV)/dev.stamp ## Build what runs in a browser without a server: the npm package and the page, into build/. Wants npm.
	$(BIN)/python tools/build_web.py

fuzz: $(VENV)/dev.stamp requirements/fuzz.txt ## Look for inputs that break ferkit, five minutes a target; Linux, Python 3.11 to 3.13.
	$(INSTALL) --require-hashes --requirements requirements/fuzz.txt
	$(BIN)/python fuzz/run.py --minutes 5

requirements: | $(UV) ## Write the exact versions anew after a change of pyproject.toml.
	$(UV) pip compile --quiet --universal --generate-hashes --no-annotate --custom-compile-command "make requirements" \
		--extra train --extra jax --extra video --extra web --extra window --extra batch --extra parquet --extra ray --extra s3 --extra heic --group build --group dev pyproject.toml --output-file requirements/dev.txt
# The base takes the versions that suit all extras.
	$(UV) pip compile --quiet --universal --generate-hashes --no-annotate --custom-compile-command "make requirements" \
		--constraints requirements/dev.txt --group build pyproject.toml --output-file requirements/base.txt
	$(UV) pip compile --quiet --universal --generate-hashes --no-annotate --custom-compile-command "make requirements" \
		--group fuzz --output-file requirements/fuzz.txt

clean: ## Remove what the other targets made.
	rm -rf $(VENV) .tools demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
