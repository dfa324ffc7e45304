#!/bin/sh
# SPDX-License-Identifier: ISC
# Everything that can be found wrong without running the product.
set -eu
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin

say() { echo "lint: $*"; }

# need PROGRAM: whether it is there; in CI its absence is an error.
need() {
    command -v "$1" >/dev/null && return
    say "no $1 (package $1): its checks are left out"
    [ "${CI:-}" != true ] || exit 1
    return 1
}

say ruff format
"$bin/ruff" format --check --quiet .
say ruff check
"$bin/ruff" check --quiet .

say mypy
set -- qtools tests dev bin/*
[ -z "$(find bench -name '*.py')" ] || set -- "$@" bench
"$bin/mypy" --no-error-summary "$@"

pages=$(find man8 -name '*.[58]' | sort)
if [ -n "$pages" ] && need mandoc; then
    say mandoc
    dev/man.sh lint
fi

if need shellcheck; then
    say shellcheck
    grep -rlE '^#!/bin/(ba)?sh' .ci dev bench contrib tests |
        xargs shellcheck --severity=style
fi
