"""Between the ranks of a run: which of them has ended, so that the others do not wait for it.

Rank 0 listens, every other rank holds a connection to it, and each side sends a sign of life every second. The system
closes the connections of a process whatever way it ends, so its end is known at once, and rank 0 tells the others. Only
a rank that waits for all (a sum over ranks) ends by that: one that has all it needs goes on.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread

from porting.errors import UsageError
from porting.terminal import fail

GRACE = 2.0
"""Seconds that a rank which ended may be behind in what the others still take from it, and that a line may arrive."""
LIMIT = 300.0
"""Seconds without a sign of life, after which a rank counts as ended: a machine that is gone closes nothing."""
BEAT = 1.0
JOINING = 120.0
"""Seconds within which all ranks have connected."""
_SIGN, _ENDED, _TOKEN = b"\0\0\0\0", 1, 16


_SAY: list[Callable[[str], None]] = [fail]


def say_by(outlet: Callable[[str], None]) -> None:
    """Have a process's last line written by this: a worker has its own way to whom it works for."""
    _SAY[0] = outlet


def stop(text: str) -> None:
    """Write the line and end this process, whose main thread may never return from where it waits."""
    _SAY[0](text)
    os._exit(2)


@dataclass(slots=True)
class Lifeline:
    """What one rank knows of the others. said: by rank, how the process is called in a message."""

    rank: int
    said: list[str]
    end: Callable[[str], None] = stop
    limit: float = LIMIT
    _peers: dict[int, socket.socket] = field(default_factory=dict)
    _heard: dict[int, float] = field(default_factory=dict)
    _gone: dict[int, tuple[float, str]] = field(default_factory=dict)
    _since: float = 0.0
    _failed: bool = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While in it, this rank needs all others."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = 0.0

    def settle(self) -> None:
        """After a failure that the end of another may have caused: time for that to become known, and to end this."""
        self._failed = True
        time.sleep(GRACE)

    def watch(self, peers: dict[int, socket.socket]) -> None:
        """Begin, in a thread that ends with the process."""
        self._peers = peers
        self._heard = dict.fromkeys(peers, time.monotonic())
        Thread(target=self._loop, name="lifeline", daemon=True).start()

    def _loop(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer, connection in self._peers.items():
                selector.register(connection, selectors.EVENT_READ, peer)
            beat = 0.0
            while True:
                for key, _ in selector.select(BEAT / 4):
                    if not self._read(key.data):
                        selector.unregister(key.fileobj)
                now = time.monotonic()
                if now - beat > BEAT:
                    beat = now
                    self._tell(_SIGN)
                for peer, heard in self._heard.items():
                    if peer not in self._gone and now - heard > self.limit:
                        self._lost(peer, f"has given no sign of life for {self.limit:g} s")
                self._judge(now)

    def _read(self, peer: int) -> bool:
        """Take what a peer has sent; False where it has closed."""
        try:
            data = self._peers[peer].recv(4096)
        except OSError:
            data = b""
        self._heard[peer] = time.monotonic()
        for i in range(0, len(data) - 3, 4):
            kind, other = data[i], int.from_bytes(data[i + 1 : i + 4], "big")
            if kind == _ENDED:
                self._gone.setdefault(other, (time.monotonic(), "has ended before the others"))
        if not data:
            self._lost(peer, "has ended before the others")
        return bool(data)

    def _lost(self, peer: int, how: str) -> None:
        self._gone.setdefault(peer, (time.monotonic(), how))
        if self.rank == 0:
            self._tell(bytes([_ENDED]) + peer.to_bytes(3, "big"))

    def _tell(self, message: bytes) -> None:
        for peer, connection in self._peers.items():
            if peer not in self._gone:
                with suppress(OSError):  # of one that has just ended, which is read next
                    connection.sendall(message)

    def _judge(self, now: float) -> None:
        """End, if a rank is gone for which this one waits; of several the one that went first."""
        since = self._since
        if not self._gone or not since:
            return
        peer, (at, how) = min(self._gone.items(), key=lambda item: item[1][0])
        if self._failed or now - max(at, since) > GRACE:
            self._since = 0.0
            self.end(f"rank {peer} ({self.said[peer]}) {how}; rank {self.rank} waits for it no longer and ends too")


def join(rank: int, size: int, meeting: str, exchange: Callable[[bytes], list[bytes]]) -> Lifeline:
    """The lifeline of a rank that is connected to all.

    meeting: a host that every rank reaches. exchange: gives what every rank says, by rank; called once by each.
    Raises: UsageError where the ranks cannot connect.
    """
    name = f"process {os.getpid()} on {socket.gethostname()}"[:100]
    if rank == 0:
        host, token = _own_address(meeting), secrets.token_hex(_TOKEN // 2)
        with socket.create_server((host, 0), family=_family(host), backlog=size) as server:
            said = exchange(f"{name}|{host}|{server.getsockname()[1]}|{token}".encode())
            peers = _accepted(server, size, token)
    else:
        said = exchange(name.encode())
        _, host, port, token = said[0].decode().split("|")
        peers = {0: _connected(host, int(port), rank, token)}
    line = Lifeline(rank, [text.decode(errors="replace").split("|")[0] for text in said])
    line.watch(peers)
    return line


def _own_address(meeting: str) -> str:
    """The address of this machine by which others of the run reach it. Connecting a datagram socket sends nothing."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(meeting, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise UsageError(f"{meeting}: rank 0 does not reach it, where the ranks meet: {error.strerror}") from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _accepted(server: socket.socket, size: int, token: str) -> dict[int, socket.socket]:
    """The connections of all other ranks; of who does not know the token none."""
    found: dict[int, socket.socket] = {}
    end = time.monotonic() + JOINING
    while len(found) < size - 1:
        server.settimeout(max(end - time.monotonic(), 0.01))
        try:
            connection, _ = server.accept()
            connection.settimeout(10)
            said = connection.recv(_TOKEN + 4, socket.MSG_WAITALL)
        except OSError:
            if time.monotonic() < end:
                continue
            missing = [str(rank) for rank in range(1, size) if rank not in found]
            raise UsageError(f"rank {', '.join(missing)}: has not connected within {JOINING:g} s") from None
        rank = int.from_bytes(said[_TOKEN:], "big")
        if said[:_TOKEN].decode(errors="replace") == token and 0 < rank < size:
            found[rank] = connection
        else:
            connection.close()
    return found


def _connected(host: str, port: int, rank: int, token: str) -> socket.socket:
    try:
        connection = socket.create_connection((host, port), JOINING)
    except OSError as error:
        raise UsageError(f"rank {rank}: does not reach rank 0 at {host} port {port}: {error.strerror}") from None
    connection.sendall(token.encode() + rank.to_bytes(4, "big"))
    return connection
