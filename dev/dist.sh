#!/bin/sh
# SPDX-License-Identifier: ISC
# Write dist/qtools-VERSION.tar.gz from the last commit. Owners, modes, order and times
# come from the commit, so the same commit gives the same octets everywhere.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' qtools/__init__.py)
name=qtools-$version
git rev-parse --git-dir >/dev/null
mkdir -p dist
git -c tar.umask=0022 archive --format=tar --prefix="$name/" HEAD |
    gzip -9n >"dist/$name.tar.gz"
echo "dist/$name.tar.gz"
