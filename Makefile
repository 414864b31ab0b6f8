# The README's two commands, from a clean machine with Python 3 and its venv module.
PYTHON ?= python3
VENV   ?= .venv
# what drives a browser is fetched only where there is one
BROWSER = $(if $(shell command -v chromium),--group browser)
PIP     = $(VENV)/bin/pip install --quiet

# else each command that a test starts would compile hvmctx anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test long lint generate docs docs-serve docs-version fidelity hooks fuzz corpus packages deb mutants torture bench realxen clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) 'pip>=25.1' # the first that knows --group
	$(PIP) --editable '.[tables,compression,remote,parquet,dask,report,disassembly,forensics]' --group test $(BROWSER)
	touch $@

demo: $(VENV)/.installed
	$(VENV)/bin/hvmctx dump examples/hvm1.save

test: $(VENV)/.installed $(if $(shell command -v npm),tests/layouts/node_modules)
	$(VENV)/bin/python -m pytest -q -n auto

# The compiler of Kaitai Struct; without it the suite does not compile the description.
tests/layouts/node_modules: tests/layouts/package.json
	npm install --prefix tests/layouts --no-audit --no-fund --no-package-lock || true

long: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -q -m long
	$(VENV)/bin/python -m pytest -q -n auto --hypothesis-profile explore-long

$(VENV)/.lint: $(VENV)/.installed
	$(PIP) --group lint --group bench --group mutants --group docs
	touch $@

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/basedpyright --project . --level error --pythonpath $(VENV)/bin/python
	$(VENV)/bin/zizmor --offline --quiet .github/workflows

# Everything in the repository that a script of tools/ makes; the suite compares it.
generate: $(VENV)/.installed
	$(VENV)/bin/python tools/generate.py

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) --group docs
	touch $@

MKDOCS = NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs
# The documentation site, into build/site. A warning is an error (none with --quiet, which hides them
# from --strict too); nothing is fetched.
docs: $(VENV)/.docs
	$(MKDOCS) build --strict

docs-serve: $(VENV)/.docs
	$(MKDOCS) serve

# Put the site of this version beside those of others, on the branch gh-pages, which is not pushed.
VERSION ?= $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' hvmctx/revision.py)
docs-version: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 PATH=$(VENV)/bin:$$PATH $(VENV)/bin/mike deploy --update-aliases $(VERSION) latest

# Judge what hypervisors have judged, and write docs/fidelity.md anew. SAMPLES is where their answers
# are, by default a folder of that name in one beside the repository; without it nothing is done.
SAMPLES ?=
fidelity: $(VENV)/.installed
	$(VENV)/bin/python tools/fidelity.py $(SAMPLES)

# The checks of .pre-commit-config.yaml before every commit.
hooks: $(VENV)/.lint
	$(PIP) pre-commit
	$(VENV)/bin/pre-commit install

fuzz: $(VENV)/.installed
	for target in $$($(VENV)/bin/python -c "from hvmctx.fuzz import NAMES; print(*NAMES)"); do \
	    $(VENV)/bin/hvmctx fuzz campaign --target $$target --corpus corpus/$$target \
	        --time 10m --jobs 2 --html corpus/$$target.html || exit 1; done

# Files for other fuzzers and for test labs, dist/hvmctx-corpus-VERSION.tar.xz: fuzz/corpora/README.md.
corpus: $(VENV)/.installed
	$(VENV)/bin/python fuzz/corpora/make.py

# Mutation testing, of what docs/mutants.md has figures of: an hour or two. Or MODULE=restore/msrs, or
# ROOM=restore.
ROOM   ?=
MODULE ?= $(ROOM)
mutants: $(VENV)/.installed
	$(PIP) --group mutants
	nice $(VENV)/bin/python tools/mutants.py $(MODULE)

# Floods, faults and altered inputs through every command, some ten minutes; writes docs/torture.md.
torture: $(VENV)/.installed
	$(VENV)/bin/python tools/torture.py
	$(VENV)/bin/python tools/generate.py

$(VENV)/.packages: $(VENV)/.installed
	$(PIP) --group packages
	touch $@

# sdist and wheel into dist/, tried with every CPython that is here: tools/packages/.
packages: $(VENV)/.packages
	VENV=$(VENV) tools/packages/build.sh

# The Debian package, of the sdist: needs debhelper, dh-python, lintian, and mmdebstrap to try it.
deb:
	tools/packages/deb.sh

bench: $(VENV)/.installed
	$(PIP) --group bench
	$(VENV)/bin/python benchmarks/run.py

# The guests of tools/realxen, to be run in a dom0.
GUESTS ?= realxen-guests
realxen:
	tools/realxen/guests/make.sh $(GUESTS)

clean:
	rm -rf $(VENV)
