#!/bin/sh
# SPDX-License-Identifier: ISC
# Run what the README says, on a fresh clone of the last commit, inside a minimal Debian
# in which neither Python nor pip, venv or curl is there yet.
#
#   dev/minimal.sh [bookworm]        as root; downloads some 100 MB, takes minutes
#
# The system is made by debootstrap below /var/tmp and removed at the end; what is
# mounted in it is mounted for this run's processes only.
set -eu
suite=${1:-bookworm}
top=$(cd "$(dirname "$0")/.." && pwd)

if [ "$(id -u)" != 0 ]; then
    echo "minimal.sh: needs root, to make a system and to enter it" >&2
    exit 1
fi
if ! command -v debootstrap >/dev/null; then
    echo "minimal.sh: needs debootstrap: apt-get install debootstrap" >&2
    exit 1
fi

root=$(mktemp -d /var/tmp/qtools-minimal.XXXXXX)
trap 'rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"
debootstrap --variant=minbase "$suite" "$root" >"$root.log" || {
    tail "$root.log" >&2
    exit 1
}
rm "$root.log"
cp /etc/resolv.conf "$root/etc/"
# A network of its own may have certificates of its own.
cp -r /usr/local/share/ca-certificates "$root/usr/local/share/" 2>/dev/null || :
git clone -q --bare "$top" "$root/srv/qtools.git"

cat >"$root/srv/inside" <<'EOF'
set -eu
apt-get -q update >/dev/null
apt-get -q -y install --no-install-recommends git make >/dev/null 2>&1
for program in python3 pip curl; do
    ! command -v $program || exit 1
done
cd /srv
git clone -q qtools.git qtools
cd qtools
make demo DEMO=--check
CI=true make test
EOF

# The child has mounts of its own, so nothing is mounted here when it has ended.
# Its root is a mount, because tests make mount namespaces of their own in there.
# What is quoted is for the inner shell.
# shellcheck disable=SC2016
unshare --mount --pid --fork sh -eu -c '
    mount --bind "$1" "$1"
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    exec env -i HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        DEBIAN_FRONTEND=noninteractive chroot "$1" sh /srv/inside
' sh "$root"
