#!/bin/sh
# SPDX-License-Identifier: ISC
# Lint the pages of man8, then (unless called with "lint") render them to .cache/man.
set -eu
cd "$(dirname "$0")/.."
pages=$(find man8 -name '*.[58]' | sort)

# A reference to another page is an error only when the page should be here: mandoc
# itself looks for it in the system, where ours need not be yet.
foreign='referenced manual not found'
unindexed='outdated mandoc.db'
complaints() {
    for page in $pages; do
        mandoc -T lint -W style "$page" 2>&1 |
            grep -v -e "$foreign" -e "$unindexed" || :
        sed -n 's/^\.Xr \([a-z0-9-]*\) \([58]\).*/\1 \2/p' "$page" | while read -r other in; do
            case $other in
            popup | checkpw | pop3d | popaccount | poppassd | popserver | qtools-*)
                [ -e "man8/$other.$in" ] || echo "mandoc: $page: there is no $other.$in"
                ;;
            esac
        done
    done
}

found=$(complaints)
if [ -n "$found" ]; then
    echo "$found" >&2
    exit 1
fi
[ "${1:-}" != lint ] || exit 0

mkdir -p .cache/man
for page in $pages; do
    name=.cache/man/$(basename "$page")
    mandoc -T html "$page" >"$name.html"
    mandoc -T markdown "$page" >"$name.md"
done
echo "man.sh: HTML and Markdown are in .cache/man"
