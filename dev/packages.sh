#!/bin/sh
# SPDX-License-Identifier: ISC
# Look for the programs that development needs and, when we are root on a Debian
# system, install the packages of those that are missing.
#
#   PYTHON=/usr/bin/python3 dev/packages.sh GROUP...
#
# Fails when something of the groups python, venv or man is missing in the end. The
# group "all" never fails: a test that lacks its program says so and is skipped, which
# in CI is a failure.
set -eu
PYTHON=${PYTHON:-/usr/bin/python3}
PATH=$PATH:/usr/sbin:/sbin
apt='apt-get -q -y -o Dpkg::Use-Pty=0'

# group   package   a command that succeeds when it is not missing
rows() {
    cat <<EOF
python python3 $PYTHON -c 'import sqlite3, ssl'
venv python3-venv $PYTHON -c 'import ensurepip, venv'
venv ca-certificates test -s /etc/ssl/certs/ca-certificates.crt
man mandoc command -v mandoc
all mandoc command -v mandoc
all shellcheck command -v shellcheck
all git command -v git
all curl command -v curl
all openssl command -v openssl
all python3-cryptography /usr/bin/python3 -I -c 'import cryptography'
all ucspi-tcp command -v tcpserver
all ipsvd command -v tcpsvd
all s6 command -v s6-ipcserver
all execline command -v execlineb
all fetchmail command -v fetchmail
all mpop command -v mpop
all getmail6 command -v getmail
all perl perl -MNet::POP3 -e 1
all libauthen-sasl-perl perl -MAuthen::SASL -e 1
all libio-socket-ssl-perl perl -MIO::Socket::SSL -e 1
all libdigest-hmac-perl perl -MDigest::HMAC_MD5 -e 1
all liblockfile1 ls /usr/lib/*/liblockfile.so.1
all libbsd0 ls /usr/lib/*/libbsd.so.0
all libwrap0 ls /usr/lib/*/libwrap.so.0
all libsodium23 ls /usr/lib/*/libsodium.so.23
all libunwind8 ls /usr/lib/*/libunwind.so.8
all libevent-2.1-7 ls /usr/lib/*/libevent-2.1.so.7
all libevent-2.1-7t64 ls /usr/lib/*/libevent-2.1.so.7
all netbase test -s /etc/protocols
all libcrypt1 ls /lib/*/libcrypt.so.1
all libsasl2-modules ls /usr/lib/*/sasl2/libscram.so
all libpam-pwdfile ls /usr/lib/*/security/pam_pwdfile.so
all libpam-wrapper ls /usr/lib/*/pam_wrapper/pam_matrix.so
all procps command -v ps
all passwd command -v chpasswd
all util-linux command -v unshare
EOF
}

# known PACKAGE...: those that this release of Debian has, under that name.
known() {
    for package in "$@"; do
        apt-cache show "$package" >/dev/null 2>&1 && printf '%s ' "$package"
    done
    return 0
}

# missing GROUP...: the packages whose check fails, each once, on one line.
missing() {
    rows | while read -r group package check; do
        for wanted in "$@"; do
            [ "$wanted" = "$group" ] || continue
            sh -c "$check" >/dev/null 2>&1 </dev/null || echo "$package"
        done
    done | sort -u | tr '\n' ' '
}

packages=$(missing "$@")
if [ -n "$packages" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "packages.sh: missing; as root: apt-get install $packages"
    elif ! command -v apt-get >/dev/null; then
        echo "packages.sh: missing, and no apt-get here to install: $packages"
    else
        echo "packages.sh: installs Debian packages to build and test with: $packages"
        export DEBIAN_FRONTEND=noninteractive
        # The words of $apt and $packages are to be split.
        # shellcheck disable=SC2046,SC2086
        $apt update >/dev/null &&
            $apt install --no-install-recommends $(known $packages) >/dev/null ||
            echo "packages.sh: apt-get failed, see above"
    fi
fi

for group in "$@"; do
    [ "$group" = all ] && continue
    packages=$(missing "$group")
    if [ -n "$packages" ]; then
        echo "packages.sh: cannot go on without: $packages" >&2
        [ "$group" != python ] || echo "packages.sh: or set PYTHON=" >&2
        exit 1
    fi
done
