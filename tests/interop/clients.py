# SPDX-License-Identifier: ISC
"""Clients, one row each: how it is made to fetch everything, and what it does to mail.

A client is judged by what it has stored. What one is known to change by itself is a
function in its row, as narrow as the octets it was seen to change; everything else must
be, octet for octet, what the corpus says.
"""

import os
import poplib
import re
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.corpus import Message
from tests.support import IS_ROOT, need

NOBODY = 65534  # getmail refuses to run as root


class Errand(NamedTuple):
    """What a client is to do.

    place: a folder of its own, which stays for its next session. how: the word that
    makes it log in one way (see Client.logins). tls: "" for none, "stls" or "at once".
    ca: the certificate of whom it trusts then.
    """

    port: int
    user: str
    secret: str
    place: Path
    how: str
    is_kept: bool
    tls: str = ""
    ca: str = ""

    @property
    def host(self) -> str:
        """The server, by the name that its certificate has, where one is needed."""
        return "localhost" if self.tls else "127.0.0.1"

    def write(self, name: str, text: str, mode: int = 0o600) -> str:
        """Write a file that holds the password; give its path."""
        path = self.place / name
        path.write_text(text, encoding="ascii")
        path.chmod(mode)
        if IS_ROOT:
            os.chown(path, NOBODY, NOBODY)
        return str(path)

    def run(self, *argv: str, codes: tuple[int, ...] = (0,)) -> str:
        """Run a program as nobody in particular; give what it prints."""
        someone = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        done = subprocess.run(
            argv,
            cwd=self.place,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.place), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **(someone if IS_ROOT else {}),  # type: ignore[call-overload]  # see above
        )
        assert done.returncode in codes, (argv, done.stdout, done.stderr)
        return str(done.stdout)

    def folder(self, name: str) -> Path:
        """Give a folder for what is fetched."""
        path = self.place / name
        path.mkdir(exist_ok=True)
        if IS_ROOT:
            os.chown(path, NOBODY, NOBODY)
        return path

    def maildir(self) -> Path:
        """Give a Maildir for what is fetched."""
        path = self.folder("fetched")
        for name in ("tmp", "new", "cur"):
            self.folder(f"fetched/{name}")
        return path


Fetched = list[bytes]


def _contents(folder: Path) -> Fetched:
    """Give what has been fetched and take it away, for the next session to add to."""
    found = [path.read_bytes() for path in folder.iterdir()]
    for path in folder.iterdir():
        path.unlink()
    return found


def _poplib(errand: Errand) -> Fetched:
    with pytest.MonkeyPatch.context() as patch:
        # Lines of more than 2,048 octets are against the rules, and in the corpus.
        patch.setattr(poplib, "_MAXLINE", 1 << 20)
        client = _connect(errand)
        if errand.how == "apop":
            client.apop(errand.user, errand.secret)
        else:
            client.user(errand.user)
            client.pass_(errand.secret)
        count, total = client.stat()
        found = []
        for number in _fresh(errand, _poplib_uids(client)):
            lines = client.retr(number)[1]
            found.append(b"".join(line + b"\r\n" for line in lines))
            if not errand.is_kept:
                client.dele(number)
        client.quit()
    if len(found) == count:
        assert sum(map(len, found)) == total
    return found


def _connect(errand: Errand) -> poplib.POP3:
    where = (errand.host, errand.port)
    if not errand.tls:
        return poplib.POP3(*where, timeout=30)
    context = ssl.create_default_context(cafile=errand.ca)
    if errand.tls == "at once":
        return poplib.POP3_SSL(*where, timeout=30, context=context)
    client = poplib.POP3(*where, timeout=30)
    client.stls(context)
    return client


def _poplib_uids(client: poplib.POP3) -> list[str]:
    return [row.split()[1].decode() for row in client.uidl()[1]]


def _fresh(errand: Errand, uids: list[str]) -> list[int]:
    """Give the numbers of messages whose UIDs this errand has not met; note them.

    For clients that leave this to the programs they are part of.
    """
    path = errand.place / "seen"
    seen = path.read_text(encoding="ascii").split() if path.exists() else []
    path.write_text(" ".join({*seen, *uids}), encoding="ascii")
    assert len(set(uids)) == len(uids)
    return [number for number, uid in enumerate(uids, 1) if uid not in seen]


def _curl(errand: Errand) -> Fetched:
    scheme = "pop3s" if errand.tls == "at once" else "pop3"
    base = f"{scheme}://{errand.host}:{errand.port}"
    who = ["-sS", "--user", f"{errand.user}:{errand.secret}"]
    if errand.tls:
        who += ["--ssl-reqd", "--cacert", errand.ca]
    if errand.how != "user":
        who += ["--login-options", f"AUTH={errand.how}"]
    program = need("curl", "curl")
    rows = errand.run(program, *who, "--request", "UIDL", base + "/").splitlines()
    numbers = _fresh(errand, [row.split()[1] for row in rows])
    folder = errand.folder("fetched")
    words = []
    for number in numbers:
        words += ["--output", f"{folder}/{number}", f"{base}/{number}"]
    if numbers:
        errand.run(program, *who, *words)
    if numbers and not errand.is_kept:
        # -I: this command has a reply of one line.
        urls = [f"{base}/{number}" for number in numbers]
        errand.run(program, *who, "-I", "--request", "DELE", *urls)
    return _contents(folder)


def _fetchmail(errand: Errand) -> Fetched:
    folder = errand.folder("fetched")
    script = f'#!/bin/sh\nexec cat >"$(mktemp {folder}/XXXXXXXXXX)"\n'
    agent = errand.write("agent", script, 0o700)
    protocol, _, auth = errand.how.partition(" ")
    where = f"{errand.host} service {errand.port}"
    ssl_word = "ssl" if errand.tls == "at once" else ""
    trust = f'sslproto "auto" sslcertck sslcertfile "{errand.ca}"'
    rows = (
        "set no bouncemail set no spambounce set invisible",
        f"poll {where} protocol {protocol} {auth} uidl no dns",
        f'user "{errand.user}" password "{errand.secret}"',
        f"{ssl_word} {trust}" if errand.tls else 'sslproto ""',
        "no rewrite pass8bits no stripcr no dropstatus no dropdelivered",
        "keep" if errand.is_kept else "no keep",
        f'mda "{agent}"\n',
    )
    given = errand.write("fetchmailrc", "\n".join(rows))
    program = need("fetchmail", "fetchmail")
    ids = str(errand.place / "ids")
    # 1: there was no new mail
    errand.run(program, "-f", given, "-i", ids, "--nosyslog", codes=(0, 1))
    return _contents(folder)


def _mpop(errand: Errand) -> Fetched:
    maildir = errand.maildir()
    rows = (
        "account default",
        f"host {errand.host}",
        f"port {errand.port}",
        f"tls {'on' if errand.tls else 'off'}",
        f"tls_starttls {'on' if errand.tls == 'stls' else 'off'}",
        f"tls_trust_file {errand.ca}" if errand.tls else "",
        f"auth {errand.how}",
        f"user {errand.user}",
        f"password {errand.secret}",
        f"keep {'on' if errand.is_kept else 'off'}",
        "received_header off",
        f"delivery maildir {maildir}",
        f"uidls_file {errand.place}/uidls\n",
    )
    given = errand.write("mpoprc", "\n".join(rows))
    errand.run(need("mpop", "mpop"), "-C", given)
    return _contents(maildir / "new")


# getmail waits for each delivery by a condition that its handler of SIGCHLD notifies.
# When the child ends first it waits in vain, for minutes: this one remembers.
GETMAIL = """
import runpy, sys, threading
from getmailcore import baseclasses

class Condition(threading.Condition):
    is_notified = False

    def notify_all(self):
        self.is_notified = True
        super().notify_all()

    def wait(self, timeout=None):
        while not self.is_notified:
            super().wait(0.01)
        return True

baseclasses.Condition = Condition
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _getmail(errand: Errand) -> Fetched:
    maildir = errand.maildir()
    text = f"""
        [retriever]
        type = SimplePOP3{"SSL" if errand.tls else ""}Retriever
        {f"ca_certs = {errand.ca}" if errand.tls else ""}
        server = {errand.host}
        port = {errand.port}
        username = {errand.user}
        password = {errand.secret}
        use_apop = {errand.how == "apop"}
        [destination]
        type = Maildir
        path = {maildir}/
        [options]
        delete = {not errand.is_kept}
        read_all = false
        delivered_to = false
        received = false
    """
    given = errand.write("getmailrc", re.sub("(?m)^ +", "", text))
    program = need("getmail", "getmail6")
    folder = errand.folder("state")
    wrapper = errand.write("getmail.py", GETMAIL)
    words = [program, f"--getmaildir={folder}", f"--rcfile={given}"]
    errand.run("/usr/bin/python3", wrapper, *words)
    return _contents(maildir / "new")


PERL = r"""
use strict; use warnings; use Net::POP3; use Authen::SASL; use Digest::HMAC_MD5;
my ($where, $user, $secret, $how, $keep, $folder, $seen, $tls, $ca) = @ARGV;
my @trust = (SSL_ca_file => $ca, SSL_verifycn_name => "localhost");
my @at_once = $tls eq "at once" ? (SSL => 1, @trust) : ();
my $pop = Net::POP3->new($where, @at_once) or die "connect: $@";
$tls ne "stls" or $pop->starttls(@trust) or die "stls: $@";
my $sasl = Authen::SASL->new(
    mechanism => $how, callback => { user => $user, pass => $secret });
my $good = $how eq "login" ? $pop->login($user, $secret)
    : $how eq "apop" ? $pop->apop($user, $secret) : $pop->auth($sasl);
$good or die "refused: ", $pop->message;
my %seen = map { $_ => 1 } split / /, $seen;
my $uids = $pop->uidl;
for my $number (sort { $a <=> $b } keys %$uids) {
    print "$uids->{$number}\n";
    next if $seen{ $uids->{$number} };
    my $lines = $pop->get($number) or die "get: ", $pop->message;
    $tls and s/\r\n\z/\n/ for @$lines; # which it does by itself without TLS
    open my $file, ">:raw", "$folder/$number" or die $!;
    print $file @$lines;
    close $file;
    $keep or $pop->delete($number) or die "delete: ", $pop->message;
}
$pop->quit or die "quit";
"""


def _perl(errand: Errand) -> Fetched:
    program = need("perl", "perl")
    script = errand.write("fetch.pl", PERL)
    folder = errand.folder("fetched")
    path = errand.place / "seen"
    seen = path.read_text(encoding="ascii") if path.exists() else ""
    who = [f"{errand.host}:{errand.port}", errand.user, errand.secret, errand.how]
    what = ["1" if errand.is_kept else "", str(folder), seen, errand.tls, errand.ca]
    uids = errand.run(program, script, *who, *what).split()
    path.write_text(" ".join(uids), encoding="ascii")
    return _contents(folder)


def _as_sent(message: Message) -> bytes:
    return message.wire


def _with_lf(message: Message) -> bytes:
    """Store with the line ends of UNIX."""
    return message.wire.replace(b"\r\n", b"\n")


def _by_curl(message: Message) -> bytes:
    """Make an empty line of nothing at all."""
    return message.wire or b"\r\n"


def _by_getmail(message: Message) -> bytes:
    """Take mail apart and put it together again, as Python's email package does.

    A bare CR ends a line, a header without an end gets one, and the address of the
    sender, put in front, has a question mark for each octet that is not ASCII.
    """
    text = re.sub(rb"\r\n?", b"\n", _with_lf(message))
    first, newline, rest = text.partition(b"\n")
    if first.startswith(b"Return-Path:"):
        text = re.sub(rb"[^\0-\x7f]", b"?", first) + newline + rest
    else:
        text = b"Return-Path: <unknown>\n" + text
    return text if b"\n\n" in text else text + b"\n"


def _by_fetchmail(message: Message) -> bytes:
    """Give a header to what has none and end a header that does not end."""
    text = message.wire
    if text.startswith(b"\r\n") or not text:
        text = b"From: FETCHMAIL-DAEMON\r\n" + text
    return text if b"\r\n\r\n" in text else text + b"\r\n"


def _from_fetchmail(fetched: bytes) -> bytes:
    """Take away what nobody can foresee.

    That is where a header it has made names this machine and its user; and all behind
    the first 8,000 octets of a long line: fetchmail breaks it at the end of its buffer
    and writes octets from elsewhere into the gap.
    """
    made = (
        rb"(From: FETCHMAIL-DAEMON\r\n)"
        rb"To: [^\r]*\r\nSubject: Headerless mail [^\r]*\r\n"
    )
    text = re.sub(made, rb"\1", fetched)
    return re.sub(rb"(?s)([^\n]{8000}).*", rb"\1", text)


def _unchanged(fetched: bytes) -> bytes:
    return fetched


class Client(NamedTuple):
    """A client.

    logins: the words that make it log in one way or the other, each with the
    mechanism that the session log must name thereafter, by the name it has there.
    changes: gives what the client makes of a message. normal: is applied to both
    sides before they are compared. tls: how it can begin with TLS.
    """

    name: str
    fetch: Callable[[Errand], Fetched]
    logins: dict[str, str]
    changes: Callable[[Message], bytes] = _as_sent
    normal: Callable[[bytes], bytes] = _unchanged
    tls: tuple[str, ...] = ("stls", "at once")


CLIENTS = (
    Client("poplib", _poplib, {"user": "User", "apop": "Apop"}),
    Client(
        "curl",
        _curl,
        {
            "user": "User",
            "PLAIN": "Plain",
            "LOGIN": "Login",
            "CRAM-MD5": "Cram-Md5",
            "+APOP": "Apop",
        },
        _by_curl,
    ),
    Client(
        "fetchmail",
        _fetchmail,
        {
            "pop3 auth password": "User",
            "pop3 auth cram-md5": "Cram-Md5",
            "pop3": "Cram-Md5",
            "apop": "Apop",
        },
        _by_fetchmail,
        _from_fetchmail,
    ),
    Client(
        "mpop",
        _mpop,
        {
            "user": "User",
            "plain": "Plain",
            "login": "Login",
            "cram-md5": "Cram-Md5",
            "scram-sha-256": "Scram-Sha-256",
            "apop": "Apop",
        },
        _with_lf,
    ),
    Client(
        "getmail",
        _getmail,
        {"user": "User", "apop": "Apop"},
        _by_getmail,
        tls=("at once",),
    ),
    Client(
        "Net::POP3",
        _perl,
        {
            "login": "User",
            "PLAIN": "Plain",
            "LOGIN": "Login",
            "CRAM-MD5": "Cram-Md5",
            "apop": "Apop",
        },
        _with_lf,
    ),
)


def assert_same(client: Client, fetched: Fetched, sent: list[Message]) -> None:
    """Compare what a client has stored with what it must have made of the corpus."""
    found = sorted(map(client.normal, fetched))
    expected = {client.normal(client.changes(each)): each.label for each in sent}
    strange = [octets[:2000] for octets in found if octets not in expected]
    missing = [label for octets, label in expected.items() if octets not in found]
    assert (missing, strange) == ([], [])
    assert len(found) == len(sent)
