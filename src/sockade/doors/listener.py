"""Accepts sockets: the address is judged before any TLS work is spent on it, and TLS has an absolute deadline.

It counts connections by address until they are gone; those of a trusted proxy count for the client it speaks for.
When too many are not admitted, the one that was silent for longest makes room: under a flood of half-open
connections a real client still gets in.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import ssl
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from sockade.doors.hello import Hellos, send_alert
from sockade.doors.peer import Peer
from sockade.doors.refusals import record_refusal
from sockade.doors.turnstile import Turnstile
from sockade.guard.addresses import allowance_key
from sockade.guard.forwarded import client_address
from sockade.guard.handshake import Refuse
from sockade.guard.identity import ConnectionId
from sockade.guard.rates import Allowances, Rate
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockade.clock import Clock
    from sockade.doors.connect import Connect
    from sockade.guard.addresses import AddressRules
    from sockade.guard.handshake import Head
    from sockade.protocol.events import AuditLog
    from sockade.settings import LimitSettings

ACCEPTS_A_TURN = 64
"""A flood of connects must not keep the loop from those that are open."""
HANDSHAKES_A_TURN = 8
"""TLS handshakes that begin in one turn of the loop: each takes the CPU for a good part of a millisecond."""
RETRY_SECONDS = 0.5
SOCKETS_A_HANDSHAKE = 10
"""How many sockets an address may open for each handshake it may make: a page takes some for its files, and what is
refused here is spared TLS."""
RETRY_AFTER_SECONDS = 30
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

logger = logging.getLogger("sockade.listener")


class Listener:
    """One port; without a context it speaks plain TCP, which only loopback may.

    `judge` refuses what the limits hold against an address, by its `allowance_key` and the monotonic time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: LimitSettings,
        rules: Callable[[], AddressRules],
        judge: Callable[[str, float], Refuse | None],
        context: Callable[[], ssl.SSLContext] | None,
        door: Callable[[Peer], asyncio.Protocol],
        connect: Connect,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._rules = rules
        self._judge_peer = judge
        self._context = context
        self._door = door
        self._connect = connect
        self._audit = audit
        self._clock = clock
        self._sockets: list[socket.socket] = []
        self._peers: set[Peer] = set()
        self._pending: dict[Peer, None] = {}
        self._addresses: Counter[str] = Counter()
        sockets = limits.handshakes_per_minute * SOCKETS_A_HANDSHAKE
        self._arrivals = Allowances(Rate(sockets / 60, sockets))
        self._hellos = Hellos(loop, limits.tls_seconds)
        self._turnstile = Turnstile(loop, HANDSHAKES_A_TURN)
        self._empty = asyncio.Event()

    def start(self, sockets: list[socket.socket]) -> None:
        """Accept from bound sockets."""
        self._sockets = sockets
        for sock in sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def stop(self) -> None:
        """Accept nothing more; connections that are open stay."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def enforce_rules(self) -> None:
        """Drop every peer that is not admitted yet and no longer permitted; connections are the hub's to close."""
        rules = self._rules()
        for peer in list(self._pending):
            unsaid = peer.is_proxy and peer.key is None
            if not unsaid and not rules.permits(peer.client):
                self._end(peer, Refuse(Reason.ADDRESS, "no longer permitted by [addresses]"))

    def drop_all(self) -> None:
        """End every socket that is still there."""
        for peer in list(self._peers):
            peer.drop()

    async def wait_empty(self, seconds: float) -> None:
        """Wait until every accepted socket is gone, or for `seconds`."""
        if self._peers:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), max(seconds, 0))

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._back_off(listening, error)
                return
            sock.setblocking(False)
            self._welcome(sock, address[0])

    def _back_off(self, listening: socket.socket, error: OSError) -> None:
        """Wait a little when the system has nothing left, instead of asking again at once for ever."""
        logger.error("cannot accept: %s", error)
        if error.errno in EXHAUSTED:
            self._loop.remove_reader(listening)
            self._loop.call_later(RETRY_SECONDS, self._resume, listening)
            # Whoever is silent for this long keeps others out.
            before = self._loop.time() - RETRY_SECONDS
            for peer in [peer for peer in list(self._pending)[:ACCEPTS_A_TURN] if peer.accepted_at < before]:
                self._end(peer, Refuse(Reason.BUSY, "made room: out of descriptors"))

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _welcome(self, sock: socket.socket, address: str) -> None:
        """Judge an address, count it, and start TLS."""
        # A trusted proxy is no client: it is counted and judged for whom it speaks, once it says so.
        is_proxy = self._rules().trusts(address)
        key = allowance_key(address)
        refusal = None if is_proxy else self._judge(address, key)
        peer = Peer(self, ConnectionId(self._clock.short_id()), address, self._loop.time(), is_proxy=is_proxy)
        if refusal is not None:
            record_refusal(self._audit, refusal, peer.id, address)
            sock.close()
            return
        if len(self._pending) >= self._limits.unauthenticated:
            self._end(next(iter(self._pending)), Refuse(Reason.BUSY, "made room for a newer one"))
        self._peers.add(peer)
        self._pending[peer] = None
        if not is_proxy:
            self._count(peer, key)
        if self._context is None:
            peer.task = self._loop.create_task(self._secure(sock, peer))
        else:
            peer.silent = sock
            self._hellos.wait(sock, partial(self._hear, sock, peer))

    def _judge(self, address: str, key: str) -> Refuse | None:
        if not self._rules().permits(address):
            return Refuse(Reason.ADDRESS, "not permitted by [addresses]")
        if self._addresses[key] >= self._limits.connections_per_address:
            detail = "over limits.connections_per_address"
            return Refuse(Reason.ADDRESS_CONNECTIONS, detail, retry_after=RETRY_AFTER_SECONDS)
        now = self._clock.monotonic()
        if (refusal := self._judge_peer(key, now)) is not None:
            return refusal
        if not self._arrivals.bucket(key, now).take(now):
            detail = f"over {SOCKETS_A_HANDSHAKE} sockets for each of limits.handshakes_per_minute"
            return Refuse(Reason.RATE, detail, retry_after=RETRY_AFTER_SECONDS)
        return None

    def judge_request(self, peer: Peer, head: Head) -> Refuse | None:
        """Judge the client behind a trusted proxy as its own peer would have been; a kept connection may change it."""
        if peer in self._pending:
            # Whoever asks is no longer the first to make room.
            self._pending[peer] = self._pending.pop(peer)
        if not peer.is_proxy:
            return None
        if peer not in self._peers:
            return Refuse(Reason.BUSY, "already gone")
        address = client_address(head, peer.address, self._rules().proxies)
        if isinstance(address, Refuse):
            return address
        peer.client = address
        key = allowance_key(address)
        if key != peer.key:
            self._count(peer, None)
            refusal = self._judge(address, key)
            if refusal is not None:
                return refusal
            self._count(peer, key)
        return None if self._rules().permits(address) else Refuse(Reason.ADDRESS, "not permitted by [addresses]")

    def _count(self, peer: Peer, key: str | None) -> None:
        """Count a peer under another key than before, or under none."""
        if peer.key is not None:
            self._addresses[peer.key] -= 1
            if self._addresses[peer.key] <= 0:
                del self._addresses[peer.key]
        peer.key = key
        if key is not None:
            self._addresses[key] += 1

    def _end(self, peer: Peer, refusal: Refuse) -> None:
        """Drop a peer that is not admitted, and say why in the log."""
        record_refusal(self._audit, refusal, peer.id, peer.client)
        peer.drop()
        self.release(peer)

    def _hear(self, sock: socket.socket, peer: Peer, whole: bool) -> None:
        """Start TLS with a peer whose ClientHello is there."""
        peer.silent = None
        if whole:
            peer.task = self._loop.create_task(self._secure(sock, peer))
        else:
            self.release(peer)
            sock.close()

    def hang_up(self, peer: Peer, sock: socket.socket) -> None:
        """End a peer that has said nothing yet."""
        peer.silent = None
        self._hellos.forget(sock)
        self.release(peer)
        sock.close()

    async def _secure(self, sock: socket.socket, peer: Peer) -> None:
        """Run the TLS handshake, where there is one; from there on the door has the connection."""
        done = False
        try:
            if self._context is None:
                await self._connect(lambda: self._door(peer), sock)
                done = True
            else:
                await self._turnstile.enter()
                done = await self._shake_hands(sock, peer, self._context())
        except OSError as error:
            logger.debug("no TLS with %s (%s): %s", peer.address, peer.id, error)
        finally:
            peer.task = None
            if not done:
                self.release(peer)
                sock.close()

    async def _shake_hands(self, sock: socket.socket, peer: Peer, context: ssl.SSLContext) -> bool:
        spare = os.dup(sock.fileno())  # The transport closes its socket before anything could be said through it.
        try:
            await self._connect(
                lambda: self._door(peer),
                sock,
                ssl=context,
                ssl_handshake_timeout=max(peer.accepted_at + self._limits.tls_seconds - self._loop.time(), 0.01),
                ssl_shutdown_timeout=self._limits.close_seconds,
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            # Scanners and browsers that do not know our CA yet: worth a line for those who look for it.
            logger.debug("TLS with %s (%s) ended: %s", peer.address, peer.id, type(error).__name__)
            if isinstance(error, ssl.SSLError):
                send_alert(spare, error)
            return False
        finally:
            os.close(spare)
        return True

    def settle(self, peer: Peer) -> None:
        """Take a peer from those who are not admitted."""
        self._pending.pop(peer, None)

    def release(self, peer: Peer) -> None:
        """Count a peer out. Doing so twice is harmless."""
        if peer not in self._peers:
            return
        self._peers.discard(peer)
        self._pending.pop(peer, None)
        self._count(peer, None)
        if not self._peers:
            self._empty.set()
