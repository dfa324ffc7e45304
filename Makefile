# SPDX-License-Identifier: ISC
# POSIX make. `make help` lists the targets.

PREFIX = /usr/local
DESTDIR =
BINDIR = $(PREFIX)/bin
LIBDIR = $(PREFIX)/lib/qtools
MANDIR = $(PREFIX)/share/man
# The interpreter written into the installed programs.
PYTHON = /usr/bin/python3
# What the interpreter is started with: isolated, without site.
PYFLAGS = -IS
# Put before the name of each program and its page, e.g. q for qpopup and qpopup(8).
PROGPREFIX =
# 1 installs although unprivileged users can't run what was installed.
FORCE =

# For development only.
VENV = .venv
DEMO =
BENCH =
PYTEST = tests
# How many processes run the tests; 0 runs them in one, as a debugger wants it.
JOBS = 2

PLACES = DESTDIR='$(DESTDIR)' BINDIR='$(BINDIR)' LIBDIR='$(LIBDIR)' \
	MANDIR='$(MANDIR)' PYFLAGS='$(PYFLAGS)' PROGPREFIX='$(PROGPREFIX)' \
	FORCE='$(FORCE)'
IS_YOUNG_ENOUGH = '$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))'

all: help

help:
	@echo 'make demo        a POP3 server with mail on a loopback port, without root'
	@echo 'make test        install the tools for testing (says which), lint, test'
	@echo 'make check       lint only: ruff, mypy, mandoc, shellcheck'
	@echo 'make man         the pages of man8 as HTML and Markdown below .cache/man'
	@echo 'make bench       measure, side by side with other servers'
	@echo 'make install     PREFIX=$(PREFIX) DESTDIR= BINDIR= LIBDIR= MANDIR='
	@echo '                 PYTHON=$(PYTHON) PROGPREFIX= FORCE='
	@echo 'make uninstall   remove what install put there; same variables'
	@echo 'make dist        the release archive below dist/, same octets each time'
	@echo 'make clean       remove what the other targets made in this folder'

demo:
	@PYTHON='$(PYTHON)' dev/packages.sh python
	@'$(PYTHON)' -I dev/demo.py $(DEMO)

# Lint first, so that the last line is the summary of the tests.
test: check
	@TEST_PYTHON='$(PYTHON)' VENV='$(VENV)' JOBS='$(JOBS)' dev/test.sh $(PYTEST)

check lint: $(VENV)/ready
	@PYTHON='$(PYTHON)' dev/packages.sh all
	@VENV='$(VENV)' dev/lint.sh

$(VENV)/ready: dev/requirements.txt dev/packages.sh
	@PYTHON='$(PYTHON)' dev/packages.sh python venv
	@echo 'make: $(VENV) gets the tools of dev/requirements.txt from PyPI'
	@'$(PYTHON)' -m venv '$(VENV)'
	@'$(VENV)/bin/python' -m pip --quiet --disable-pip-version-check \
		install --requirement dev/requirements.txt
	@touch '$(VENV)/ready'

man:
	@PYTHON='$(PYTHON)' dev/packages.sh man
	@dev/man.sh

bench:
	@PYTHON='$(PYTHON)' dev/packages.sh python all
	@'$(PYTHON)' bench/run $(BENCH)

install:
	@$(IS_YOUNG_ENOUGH) || { echo '$(PYTHON) is not Python 3.11 or later' >&2; exit 1; }
	@'$(PYTHON)' -IS dev/install.py install $(PLACES)

uninstall:
	@'$(PYTHON)' -IS dev/install.py uninstall $(PLACES)

dist:
	@dev/dist.sh

clean:
	rm -rf .venv .cache dist .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: all help demo test check lint man bench install uninstall dist clean
