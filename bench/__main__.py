# SPDX-License-Identifier: ISC
"""Make `python -m bench` do what bench/run does."""

import sys

from bench.main import main

sys.exit(main(sys.argv[1:]))
