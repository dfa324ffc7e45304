#!/bin/sh
# SPDX-License-Identifier: ISC
# Unpack Debian packages into .cache/debs/NAME without installing them: POP3 servers
# conflict with each other and start themselves, and all we want is to run their
# programs beside ours.
#
#   dev/foreign.sh popa3d solid-pop3d checkpw
#
# Prints the folder of each package. Needs apt-get and dpkg-deb, not root.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
cache=$top/.cache/debs
mkdir -p "$cache"

for name in "$@"; do
    if [ ! -d "$cache/$name" ]; then
        fresh=$(mktemp -d "$cache/.fresh.XXXXXX")
        # As root, apt-get fetches as its own user, who must be able to write here.
        chmod 777 "$fresh"
        (cd "$fresh" && apt-get -q download "$name") >&2 || {
            rm -rf "$fresh"
            echo "foreign.sh: cannot get $name; is apt-get update due?" >&2
            exit 1
        }
        mkdir "$fresh/root"
        dpkg-deb -x "$fresh"/*.deb "$fresh/root"
        # Two of us at once: the first one wins, and both see a whole folder.
        mv -T "$fresh/root" "$cache/$name" 2>/dev/null || [ -d "$cache/$name" ]
        rm -rf "$fresh"
    fi
    echo "$cache/$name"
done
