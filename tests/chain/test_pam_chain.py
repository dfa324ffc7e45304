# SPDX-License-Identifier: ISC
"""PAM behind popup: the whole chain, the session from its begin to any end."""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtools.protocol import digests
from qtools.system.ffi.crypt import Crypt
from tests import corpus, support
from tests.chain.checker import run, system_user
from tests.chain.pamroom import PamRoom, script, system_service
from tests.chain.popup import DIALOGUES, House, Popup
from tests.conftest import Tools

SESSION = ["open_session", "close_session"]


def hashed(secret: bytes) -> str:
    stored = Crypt().hash(secret, b"$1$abcdefgh$")
    assert stored
    return stored.decode()


@pytest.fixture
def pam(room: Path) -> PamRoom:
    return PamRoom(room)


@pytest.fixture
def joe(room: Path) -> Iterator[str]:
    """Give a user of the system, with mail in ~/Mail."""
    home = room / "home"
    home.mkdir()
    with system_user(home, hashed(b"secret")) as name:
        known = pwd.getpwnam(name)
        os.chown(home, known.pw_uid, known.pw_gid)
        corpus.write_maildir(str(home / "Mail"), (known.pw_uid, known.pw_gid))
        yield name


@pytest.fixture
def service(pam: PamRoom) -> Iterator[str]:
    """Give a service of the system's: pam_unix, mail in ~/Mail, sessions logged."""
    (pam.room / "environment").write_text("MAILDIR=Mail\n")
    read = f"conffile=/dev/null readenv=1 envfile={pam.room}/environment"
    with system_service(
        "auth,account,session required pam_unix nodelay",
        f"session required pam_env {read}",
        f"session required pam_exec {pam.logger}",
    ) as name:
        yield name


def sessions(pam: PamRoom) -> list[str]:
    return [line.split()[0] for line in pam.logged()]


def begin(house: House, service: str, *, dialogue: str, is_execd: bool) -> Popup:
    tools = house.tools
    words = (tools.checkpw, "-a", f"pam:{service}", tools.pop3d, "Elsewhere")
    env = {"QTOOLS_EXEC": "1"} if is_execd else {}
    return house.popup(*words, dialogue=dialogue, wire="tcp", env=env)


def enter(popup: Popup, user: str) -> bytes:
    popup.reply()
    popup.ask(f"USER {user}".encode())
    return popup.ask(b"PASS secret")


@pytest.mark.parametrize("is_execd", [False, True])
@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_a_session_is_opened_and_closed(  # noqa: PLR0913  # fixtures
    house: House, pam: PamRoom, service: str, joe: str, dialogue: str, *, is_execd: bool
) -> None:
    popup = begin(house, service, dialogue=dialogue, is_execd=is_execd)
    assert enter(popup, joe).startswith(b"+OK")
    assert popup.ask(b"STAT").startswith(b"+OK ")
    assert not popup.ask(b"STAT").startswith(b"+OK 0 ")
    assert pam.logged() == [f"open_session {service} {joe} 192.0.2.7 {service} Mail"]
    popup.ask(b"QUIT")
    assert popup.code() == 0
    assert support.wait_for(lambda: sessions(pam) == SESSION)


def pop3d_of(popup: Popup, user: str) -> int:
    """Give the process that serves a user, of those that popup started."""
    uid = pwd.getpwnam(user).pw_uid
    children = Path(f"/proc/{popup.pid}/task/{popup.pid}/children").read_text()
    (found,) = (
        int(p) for p in children.split() if Path(f"/proc/{p}").stat().st_uid == uid
    )
    return found


@pytest.mark.parametrize("is_execd", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_session_is_closed_however_it_ends(  # noqa: PLR0913  # fixtures
    house: House,
    pam: PamRoom,
    service: str,
    joe: str,
    number: signal.Signals,
    *,
    is_execd: bool,
) -> None:
    popup = begin(house, service, dialogue="no-split", is_execd=is_execd)
    assert enter(popup, joe).startswith(b"+OK")
    assert sessions(pam) == ["open_session"]
    os.kill(pop3d_of(popup, joe), number)
    assert popup.rest() == b""
    assert support.wait_for(lambda: sessions(pam) == SESSION)


def test_a_session_is_closed_when_popup_is_killed(
    house: House, pam: PamRoom, service: str, joe: str
) -> None:
    popup = begin(house, service, dialogue="no-split", is_execd=False)
    assert enter(popup, joe).startswith(b"+OK")
    os.kill(popup.pid, signal.SIGKILL)
    popup.hang_up()
    assert support.wait_for(lambda: sessions(pam) == SESSION)


def test_the_client_does_not_wait_for_the_session_to_be_closed(
    house: House, pam: PamRoom, joe: str
) -> None:
    gate = pam.room / "gate"
    os.mkfifo(gate)
    slow = script(
        pam.room / "slow",
        f"#!/bin/sh\n[ $PAM_TYPE = open_session ] || read x <{gate}\n",
    )
    (pam.room / "environment").write_text("MAILDIR=Mail\n")
    read = f"conffile=/dev/null readenv=1 envfile={pam.room}/environment"
    with system_service(
        "auth,account required pam_unix nodelay",
        f"session required pam_env {read}",
        f"session required pam_exec {pam.logger}",
        f"session required pam_exec {slow}",
    ) as service:
        popup = begin(house, service, dialogue="no-split", is_execd=False)
        assert enter(popup, joe).startswith(b"+OK")
        popup.send(b"QUIT\r\n")
        assert popup.rest().startswith(b"+OK")
        assert popup.code() == 0, "and neither does the server"
        with gate.open("w") as opened:
            opened.write("\n")
        assert support.wait_for(lambda: sessions(pam) == SESSION)


def test_who_is_refused_has_no_session(
    house: House, pam: PamRoom, service: str, joe: str
) -> None:
    popup = begin(house, service, dialogue="no-split", is_execd=False)
    popup.reply()
    popup.ask(f"USER {joe}".encode())
    assert popup.ask(b"PASS wrong").startswith(b"-ERR [AUTH]")
    popup.ask(b"QUIT")
    assert popup.code() == 0
    assert pam.logged() == []


def test_whose_password_is_too_old_is_told(
    house: House, pam: PamRoom, service: str, joe: str
) -> None:
    chage = support.need("chage", "passwd")
    subprocess.run([chage, "-d", "0", joe], check=True)
    popup = begin(house, service, dialogue="no-split", is_execd=False)
    assert enter(popup, joe) == b"-ERR [AUTH] password expired\r\n"
    popup.ask(b"QUIT")
    assert pam.logged() == []


def test_who_may_not_come_in_after_all_has_his_session_closed(
    tools: Tools, pam: PamRoom, room: Path
) -> None:
    options = ("-o", "-u", "0", "-N", "-g", "0")
    rows = (
        "auth,account required pam_unix nodelay",
        f"session required pam_exec {pam.logger}",
    )
    with (
        system_user(room, hashed(b"secret"), *options) as name,
        system_service(*rows) as service,
    ):
        record = f"{name}\0secret\0\0".encode()
        outcome = run(tools, record, "-a", f"pam:{service}")
        assert (outcome.code, outcome.told) == (1, None)
        assert support.wait_for(lambda: sessions(pam) == SESSION)


def test_checkpw_passes_apop_where_it_is_told_to(
    tools: Tools, pam: PamRoom, joe: str
) -> None:
    seen = pam.room / "seen"
    keep = script(pam.room / "keep", f"#!/bin/sh\ncat >{seen}\n")
    digest = "0123456789abcdef0123456789abcdef"
    record = f"{joe}\0{digest}\0<1.2@h>\0".encode()
    with system_service(f"auth required pam_exec expose_authtok {keep}") as service:
        words = ("-a", f"pam:{service}")
        assert run(tools, record, *words, POP3METHOD="Apop").code == 1
        assert not seen.exists()
        outcome = run(tools, record, *words, "--pam-apop", POP3METHOD="Apop")
    assert outcome.told
    assert outcome.told.uid == pwd.getpwnam(joe).pw_uid
    assert seen.read_text().rstrip("\0") == f"APOP {digest} <1.2@h>"


def test_the_next_source_is_asked_when_pam_knows_nobody_of_that_name(
    tools: Tools, room: Path
) -> None:
    users = room / "users"
    uid, gid = support.OWNER
    users.write_text(f"ann:sesame\n#:ann:uid={uid} gid={gid} home=/\n")
    for code, expected in (("user_unknown", uid), ("auth_err", None)):
        with system_service(f"auth required pam_debug auth={code}") as service:
            words = ("-a", f"pam:{service} authuser:{users}")
            told = run(tools, b"ann\0sesame\0\0", *words).told
            assert (told and told.uid) == expected


@pytest.mark.parametrize("method", ["Apop", "Cram-Md5"])
def test_a_digest_is_for_the_next_source(tools: Tools, room: Path, method: str) -> None:
    users, (uid, gid) = room / "users", support.OWNER
    users.write_text(f"ann:sesame\n#:ann:uid={uid} gid={gid} home=/\n")
    stamp = b"<1.2@h>"
    made = digests.apop if method == "Apop" else digests.cram_md5
    digest = made(stamp, b"sesame")
    with system_service("auth,account required pam_deny") as service:
        words = ("-a", f"pam:{service} authuser:{users}")
        for secret, expected in ((digest, uid), (digest[::-1], None)):
            record = b"ann\0%b\0%b\0" % (secret, stamp)
            told = run(tools, record, *words, POP3METHOD=method).told
            assert (told and told.uid) == expected


def test_foreseeing_tells_what_is_wrong_with_a_word(tools: Tools) -> None:
    outcome = run(tools, b"joe\0secret\0\0", "-a", "pam:../shadow")
    assert outcome.code == 111
    assert "pam: takes the name of a service" in outcome.errors
