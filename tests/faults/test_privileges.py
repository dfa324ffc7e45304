# SPDX-License-Identifier: ISC
"""What each process may do, and what it holds, while somebody is logged in."""

import os
import pwd
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from qtools.accounts import hashes
from tests import support
from tests.certificates import Pair
from tests.chain import checker
from tests.faults import tree
from tests.faults.client import WAYS, Client
from tests.faults.harness import SECRET, Server, Servers
from tests.faults.tree import MASTER, NURSERY, SESSION, TLS, VERIFIER, WORKER, Process
from tests.support import wait_for

NOBODY = pwd.getpwnam("nobody")
NO_CAPABILITIES = 0
EVERYBODY = (MASTER, NURSERY, WORKER, VERIFIER, TLS, SESSION)
MORE_GROUPS = ["-G", "mail,games"]


class House(NamedTuple):
    """A server for a system user who is logged in, in each of the ways."""

    server: Server
    user: pwd.struct_passwd
    sessions: list[int]
    waiting: Client

    def crew(self, kind: str) -> list[Process]:
        return [tree.look(pid) for pid in self.server.crew(kind)]


def make_maildir(home: Path, user: pwd.struct_passwd) -> None:
    os.chown(home, user.pw_uid, user.pw_gid)
    for folder in ("", "tmp", "new", "cur"):
        path = home / "Maildir" / folder
        path.mkdir()
        os.chown(path, user.pw_uid, user.pw_gid)


@pytest.fixture(scope="module")
def house(
    request: pytest.FixtureRequest, session_room: Path, pair: Pair
) -> Iterator[House]:
    """Start it once: none of these tests changes anything."""
    support.need_root()
    room = session_room / "privileges"
    home = room / "home"
    home.mkdir(parents=True)
    stored = hashes.make(SECRET, "sha512").decode()
    tools = request.getfixturevalue("tools")
    with ExitStack() as stack:
        name = stack.enter_context(checker.system_user(home, stored, *MORE_GROUPS))
        user = pwd.getpwnam(name)
        make_maildir(home, user)
        village = _Village(room)
        servers = Servers(tools, village)  # type: ignore[arg-type]  # all it asks for
        stack.callback(servers.close)
        front = ("-d", "0", "-m", "plain,cram-md5")
        stack.enter_context(cores())
        server = servers.start(
            "--tls-workers", "1", front=front, checker=["-a", "system"], pair=pair
        )
        wait_for(lambda: server.is_whole(relays=1))
        for way in WAYS:
            client = stack.enter_context(server.client(way))
            assert client.log_in(name.encode(), SECRET).startswith(b"+OK")
        waiting = stack.enter_context(server.client())
        yield House(server, user, server.crew(SESSION), waiting)


@contextmanager
def cores() -> Iterator[None]:
    """Have those whom we start write core files, if they have nothing against it."""
    limit, before = resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    yield
    resource.setrlimit(limit, before)


class _Village(NamedTuple):
    room: Path
    source: str = ""


def test_the_tree_is_what_the_design_says(house: House) -> None:
    found = {kind: len(pids) for kind, pids in tree.crew(house.server.pid).items()}
    alone = {NURSERY: 1, WORKER: 1, TLS: 1}
    assert found == {**alone, VERIFIER: 2, SESSION: len(WAYS)}
    below = tree.descendants(house.server.pid)
    assert len(below) == sum(found.values())


@pytest.mark.parametrize("kind", [WORKER, TLS])
def test_who_reads_from_strangers_is_nobody(house: House, kind: str) -> None:
    for process in house.crew(kind):
        assert process.uids == [NOBODY.pw_uid] * 4
        assert process.gids == [NOBODY.pw_gid] * 4
        assert process.groups == []


@pytest.mark.parametrize("kind", [WORKER, TLS])
def test_its_root_directory_is_empty_and_has_no_name(house: House, kind: str) -> None:
    roots = []
    for process in house.crew(kind):
        roots += [process.place("root"), process.place("cwd")]
        assert os.listdir(f"/proc/{process.pid}/root") == []
    assert all(root.endswith(" (deleted)") for root in roots)
    assert not any(os.path.exists(root.removesuffix(" (deleted)")) for root in roots)
    assert len(set(roots)) == len(house.crew(kind))


@pytest.mark.parametrize("kind", [MASTER, NURSERY, VERIFIER])
def test_who_reads_hashes_and_who_forks_is_root(house: House, kind: str) -> None:
    for process in house.crew(kind):
        assert process.uids == process.gids == [0] * 4
        assert process.place("root") == "/"


def test_a_session_is_the_user(house: House) -> None:
    home = house.user.pw_dir
    assert len(house.sessions) == len(WAYS)
    for process in house.crew(SESSION):
        assert process.uids == [house.user.pw_uid] * 4
        assert process.gids == [house.user.pw_gid] * 4
        assert process.place("root") == "/"
        assert process.place("cwd") in (home, home + "/Maildir")


def test_a_session_has_no_other_groups_as_with_checkpassword(house: House) -> None:
    name, own = house.user.pw_name, house.user.pw_gid
    assert len(os.getgrouplist(name, own)) > 1
    assert all(process.groups == [own] for process in house.crew(SESSION))


@pytest.mark.parametrize("kind", [WORKER, TLS, SESSION])
def test_who_is_not_root_has_no_capabilities(house: House, kind: str) -> None:
    for process in house.crew(kind):
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(process.status[name], 16) == NO_CAPABILITIES


@pytest.mark.parametrize("kind", EVERYBODY)
def test_bounding_set_and_no_new_privileges_are_the_starters(
    house: House, kind: str
) -> None:
    """As they were: whoever starts us decides, and programs of accounts need them."""
    ours = tree.look(os.getpid())
    for process in house.crew(kind):
        for name in ("CapBnd", "NoNewPrivs"):
            assert process.status[name] == ours.status[name]


@pytest.mark.parametrize("kind", EVERYBODY)
def test_nobody_dumps_core(house: House, kind: str) -> None:
    """It would hold passwords."""
    for process in house.crew(kind):
        assert process.limit("Max core file size")[0] == "0"


@pytest.mark.parametrize("kind", [WORKER, TLS])
def test_who_has_a_descriptor_a_client_may_have_all_the_system_gives(
    house: House, kind: str
) -> None:
    for process in house.crew(kind):
        soft, hard = process.limit("Max open files")
        assert soft == hard


# What each kind holds, besides 0, 1 and 2: kinds of descriptors, with their number.


def held_by(house: House, kind: str) -> list[dict[str, int]]:
    """Give, for each process, how many descriptors there are of a kind or file."""
    found = []
    for pid in house.server.crew(kind):
        counts: dict[str, int] = {}
        for number, what in tree.descriptors(pid).items():
            if number > 2:
                counts[what] = counts.get(what, 0) + 1
        found.append(counts)
    return found


def log_of(house: House) -> str:
    return str(house.server.log_path)


def test_the_master_holds_no_client(house: House) -> None:
    (held,) = held_by(house, MASTER)
    assert held == {
        tree.LISTENER: 2,
        log_of(house): 1,
        tree.EPOLL: 1,
        tree.PIPE: 4,
        tree.CHANNEL: 1 + 1 + 2 + 1,
    }


def test_the_nursery_holds_its_ways_to_others(house: House) -> None:
    (held,) = held_by(house, NURSERY)
    assert held == {
        tree.EPOLL: 1,
        tree.NULL: 1,  # for sessions
        tree.CHANNEL: 1 + 1 + 2 + len(WAYS),
    }


def test_the_login_worker_holds_those_who_have_not_logged_in(house: House) -> None:
    (held,) = held_by(house, WORKER)
    assert held == {
        tree.LISTENER: 2,
        log_of(house): 1,
        tree.EPOLL: 1,
        tree.NULL: 1,  # to let go of when there is no descriptor left
        tree.CHANNEL: 1 + 2 + 1,
        tree.CLIENT: 1,
    }


def test_a_verifier_holds_three_channels(house: House) -> None:
    for held in held_by(house, VERIFIER):
        assert held == {tree.CHANNEL: 3}


def test_a_tls_worker_holds_its_connections(house: House) -> None:
    (held,) = held_by(house, TLS)
    assert held == {tree.CHANNEL: 2, tree.EPOLL: 1, tree.CLIENT: 2, tree.PAIR: 2}


def test_a_session_holds_its_client(house: House) -> None:
    kinds = set()
    for pid in house.sessions:
        held = tree.descriptors(pid)
        client = held[0]
        assert held[1] == client
        assert sorted(held.values()) == sorted(
            [client, client, held[2], tree.CHANNEL, tree.NULL, *mail_of(held)]
        )
        kinds.add(client)
    assert kinds == {tree.CLIENT, tree.PAIR}


def mail_of(held: dict[int, str]) -> list[str]:
    """Give what a session has open in the user's own Maildir."""
    return [
        what for what in held.values() if what.startswith("/") and "Maildir" in what
    ]


def test_no_two_processes_hold_the_same_client(house: House) -> None:
    table = tree.sockets()
    holders: dict[str, list[int]] = {}
    for pid in (house.server.pid, *tree.descendants(house.server.pid)):
        for inode in tree.inodes(pid):
            if table.get(inode) in (tree.CLIENT, tree.PAIR):
                holders.setdefault(inode, []).append(pid)
    # Two in the clear; of each in TLS the raw one, and both ends of a pair.
    assert len(holders) == 1 + 1 + 2 * 3
    assert all(len(pids) == 1 for pids in holders.values())


@pytest.mark.parametrize("kind", EVERYBODY)
def test_standard_descriptors_are_nothing_but_the_errors(
    house: House, kind: str
) -> None:
    for pid in house.server.crew(kind):
        held = tree.descriptors(pid)
        assert held[2] == str(house.server.errors_path)
        if kind != SESSION:
            assert held[0] == tree.NULL
            assert held[1] in (tree.NULL, tree.PIPE)  # -1 writes there


@pytest.mark.parametrize("kind", [kind for kind in EVERYBODY if kind != TLS])
def test_tls_and_its_key_are_in_the_tls_workers_only(house: House, kind: str) -> None:
    for pid in house.server.crew(kind):
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "_ssl" not in maps
        assert "libssl" not in maps


def test_no_file_is_open_but_the_logs(house: House) -> None:
    allowed = {log_of(house), str(house.server.errors_path)}
    for pid in (house.server.pid, *tree.descendants(house.server.pid)):
        files = {each for each in tree.descriptors(pid).values() if each[0] == "/"}
        assert {each for each in files if "Maildir" not in each} <= allowed


READ_MEMORY = """
import os, sys
os.setgroups([]); os.setresgid(*[int(sys.argv[2])] * 3)
os.setresuid(*[int(sys.argv[1])] * 3)
for pid in sys.argv[3:]:
    for name in ("mem", "environ", "fd", "cwd"):
        path = f"/proc/{pid}/{name}"
        try:
            {"fd": os.listdir, "cwd": os.readlink}.get(name, open)(path)
        except PermissionError:
            continue
        print("readable:", pid, name)
"""


def readable(ids: tuple[int, int], pids: list[int]) -> str:
    """Give what a process with these ids finds readable of others."""
    words = [sys.executable, "-c", READ_MEMORY, *map(str, (*ids, *pids))]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_the_users_other_processes_cannot_look_into_his_session(house: House) -> None:
    ids = house.user.pw_uid, house.user.pw_gid
    assert readable(ids, house.sessions) == ""


def test_nobodys_other_processes_cannot_look_into_ours(house: House) -> None:
    pids = house.server.crew(WORKER) + house.server.crew(TLS)
    assert readable((NOBODY.pw_uid, NOBODY.pw_gid), pids) == ""


def test_what_can_be_read_is_found() -> None:
    support.need_root()
    assert f"readable: {os.getpid()} environ" in readable((0, 0), [os.getpid()])
