# SPDX-License-Identifier: ISC
"""Answer all POP3 commands of all clients with +OK: the ceiling for any server at all.

One process, one epoll, no work. The load generator can reach no more than it reaches
with this one; a server that comes near it is faster than the bench can tell. Run with
the port as argument; listens on the loopback only.
"""

import select
import socket
import sys


def main() -> None:
    """Greet, answer, close on QUIT, for ever."""
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for number, _ in epoll.poll():
            if number == listener.fileno():
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                epoll.register(client, select.EPOLLIN)
                client.send(b"+OK\r\n")
                continue
            client = clients[number]
            line = client.recv(512)
            if line:
                client.send(b"+OK\r\n")
            if not line or line.startswith(b"QUIT"):
                del clients[number]
                client.close()


main()
