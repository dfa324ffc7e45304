#!/bin/sh
# SPDX-License-Identifier: ISC
# Run the tests; the last line is pytest's own summary.
#
#   VENV=.venv JOBS=2 TEST_PYTHON=/usr/bin/python3 dev/test.sh [pytest arguments]
set -eu
cd "$(dirname "$0")/.."
python=${VENV:-.venv}/bin/python
jobs=${JOBS:-0}
[ "$jobs" = 0 ] || set -- --dist=loadfile --tx="$jobs*popen//python=$python -bb" "$@"
exec "$python" -bb -m pytest "$@"
