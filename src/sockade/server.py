"""The only place where everything is put together: provision, serve, drain."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import logging
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uvicorn.server import ServerState

from sockade.api.application import http_application
from sockade.api.auth import auth_routes
from sockade.brokers.sqlite import SqliteBroker
from sockade.chat import chat_application
from sockade.clock import SystemClock
from sockade.doors.admission import Admission
from sockade.doors.http import HttpDoor, http_config
from sockade.doors.listener import Listener
from sockade.doors.ports import bind
from sockade.doors.reload import CurrentAddresses, CurrentContext, Reloading
from sockade.errors import SettingsError
from sockade.exposure import problems, weakened
from sockade.guard.identity import Carrier
from sockade.guard.limiter import Limiter
from sockade.guard.origin import canonical_origin
from sockade.guard.policy import LOOPBACK_NAMES, Policy, own_origins
from sockade.identity.authority import Authority
from sockade.identity.keys import ServerKeys
from sockade.identity.passwords import Passwords
from sockade.messaging.client import PATH as CHANNELS
from sockade.messaging.client import ChannelProtocol
from sockade.messaging.hub import SWEEP_SECONDS, Hub
from sockade.messaging.node import Node
from sockade.protocol.codes import CloseCode
from sockade.protocol.events import Event
from sockade.settings import is_loopback
from sockade.storage.database import Database
from sockade.telemetry.audit import AuditTrail

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from sockade.doors.listener import Connect, Peer
    from sockade.guard.identity import Identity, SessionId
    from sockade.messaging.application import Sockade
    from sockade.messaging.connection import Connection
    from sockade.settings import Settings

INTERRUPTED = 130
"""128 + SIGINT: what shells expect of a program that was interrupted."""

INCOMING_BYTES, OUTGOING_BYTES = 16_384 + 512, 2 * (16_384 + 512)
"""What aiofastnet holds for each connection: room for a whole TLS record, and for two that leave together. Its own
256 KiB each make two mappings a connection, of which the system gives a process 65,530 (vm.max_map_count)."""

logger = logging.getLogger("sockade.server")


@dataclass(frozen=True, slots=True)
class Started:
    """What the operator is told once the port is open."""

    url: str
    link: str | None
    """A sign-in link, as long as nobody could sign in with a password."""
    data_dir: Path
    protected: tuple[str, ...]
    weakened: tuple[str, ...]
    local_ca: bool


def run(settings: Settings, application: Sockade | None, announce: Callable[[Started], None]) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status; without an application, the built-in chat.

    Raises:
        StartError: the settings are refused, or a port, certificate or database cannot be had.
    """
    if found := problems(settings):
        raise SettingsError(found)
    sockets = bind(settings.server.host, settings.server.port)
    try:
        with asyncio.Runner(loop_factory=loop_factory(settings)) as runner:
            return runner.run(Server(settings, application, sockets).serve(announce))
    finally:
        for sock in sockets:
            sock.close()


class Server:
    """One process: everything that is constructed, and when it ends."""

    def __init__(self, settings: Settings, application: Sockade | None, sockets: list[socket.socket]) -> None:
        self.settings = settings
        self.sockets = sockets
        self.port: int = sockets[0].getsockname()[1]
        self.clock = SystemClock()
        self.pages = application is None
        self.application = application or chat_application(self.clock)
        self.policy = policy_of(settings, self.port, self.application)
        self.weakened = tuple(weakened(settings))
        self.draining = False
        self.status = 0
        self.broker: SqliteBroker | None = None

    async def serve(self, announce: Callable[[Started], None]) -> int:
        """Provision, serve until told to stop, and drain."""
        async with AsyncExitStack() as stack:
            await self.provision(stack)
            stop = asyncio.Event()
            self.loop.add_signal_handler(signal.SIGTERM, stop.set)
            self.loop.add_signal_handler(signal.SIGINT, self.interrupt, stop)
            self.loop.add_signal_handler(signal.SIGHUP, self.reloading.hurry)
            self.listener.start(self.sockets)
            self.audit.record(Event.STARTUP, detail=f"port {self.port}")
            announce(await self.started())
            # What is there by now stays: it need not be looked through each time the collector looks for circles.
            gc.collect()
            gc.freeze()
            tasks = [asyncio.create_task(self.keep_house()), asyncio.create_task(self.reloading.run())]
            await stop.wait()
            for task in tasks:
                task.cancel()
            await self.drain()
        return self.status

    def interrupt(self, stop: asyncio.Event) -> None:
        """Stop on Ctrl-C, and at once on the second."""
        if stop.is_set():
            self.listener.drop_all()
        self.status = INTERRUPTED
        stop.set()

    async def provision(self, stack: AsyncExitStack) -> None:
        """Construct every part, each with its collaborators; `stack` closes what must be closed."""
        settings, limits = self.settings, self.settings.limits
        self.loop = asyncio.get_running_loop()
        self.audit = AuditTrail(self.clock)
        self.tls = CurrentContext(settings, self.clock)
        self.addresses = CurrentAddresses(settings.addresses)
        self.reloading = Reloading(self.tls, self.addresses, self.addresses_changed)
        database = await Database.open(settings.server.data_dir)
        stack.push_async_callback(database.close)
        passwords = Passwords()
        stack.callback(passwords.close)
        keys = ServerKeys.open(settings.server.data_dir, now=self.clock.wall())
        self.authority = Authority(settings, self.clock, store=database, keys=keys, passwords=passwords)
        self.authority.on_end(self.end_sessions)
        self.authority.on_renew(self.renew_session)
        self.hub = Hub(
            self.loop,
            self.clock,
            limits,
            settings.sessions.idle_seconds,
            Limiter(limits, self.clock.monotonic()),
            self.report,
            self.connection_closed,
            self.authority.seen,
        )
        self.application.bind(self.hub, await self.open_channels(stack))
        self.admission = Admission(
            self.policy, limits, self.application, self.authority, self.hub, self.audit, self.clock
        )
        self.http_state = ServerState()
        self.listener = Listener(
            self.loop,
            limits,
            lambda: self.addresses.rules,
            lambda: self.tls.context,
            self.door(),
            connector(settings, self.loop),
            self.audit,
            self.clock,
        )

    async def open_channels(self, stack: AsyncExitStack) -> Node | None:
        """Start the channels, where the application declares any, and the endpoint that speaks their protocol."""
        if not self.application.channels.declared:
            return None
        self.broker = SqliteBroker(self.settings.server.data_dir, self.clock)
        node = Node(self.broker, self.application.channels, self.clock)
        await node.start()
        stack.push_async_callback(self.broker.close)
        endpoint = ChannelProtocol(node, functools.partial(self.authority.verify, origin=None)).endpoint()
        self.application.endpoints[endpoint.path] = endpoint
        return node

    def door(self) -> Callable[[Peer], asyncio.Protocol]:
        """Return what makes the protocol of a connection that has come through TLS."""
        routes = auth_routes(
            self.authority,
            self.settings,
            self.audit,
            self.clock,
            own_origins=own_origins(self.policy.names, self.port),
            public_origin=self.url,
        )
        config = http_config(
            http_application(routes, self.policy, self.audit, self.clock, self.unready, self.weakened, pages=self.pages)
        )
        return lambda peer: HttpDoor(
            config, self.http_state, peer, self.admission, self.settings.limits, self.audit, self.loop
        )

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        host = self.settings.server.names[0] if self.settings.server.names else self.settings.server.host
        if host in LOOPBACK_NAMES or is_loopback(host):
            host = "localhost" if host in LOOPBACK_NAMES else host
        return f"https://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def started(self) -> Started:
        """Return what the operator is told."""
        link = None
        if await self.authority.needs_first_link():
            secret, _ = await self.authority.create_link(role="admin")
            link = f"{self.url}/#link={secret.reveal()}"
        limits = self.settings.limits
        return Started(
            url=self.url,
            link=link,
            data_dir=self.settings.server.data_dir,
            protected=(
                "TLS 1.2 and 1.3",
                f"{', '.join(sorted(self.policy.carriers))} verified before the socket opens",
                "origin and host checked",
                f"at most {limits.connections_per_address} connections an address",
            ),
            weakened=self.weakened,
            local_ca=self.tls.pair.authority is not None,
        )

    def unready(self) -> list[str]:
        """Return what keeps this server from taking new connections."""
        problems = ["draining"] if self.draining else []
        if self.broker is not None and self.broker.failure:
            problems.append(f"channels cannot be kept: {self.broker.failure}")
        return problems

    async def keep_house(self) -> None:
        """Once a second: deadlines, and what other processes ended."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.hub.sweep()
            try:
                await self.authority.poll()
            except Exception:
                logger.exception("cannot look for ended sessions")

    async def drain(self) -> None:
        """Take nothing new, tell everyone to come back later, and wait for them within the limit."""
        self.draining = self.admission.draining = True
        self.listener.stop()
        for connection in list(self.http_state.connections):
            connection.shutdown()
        seconds = self.settings.server.drain_seconds
        end = self.loop.time() + seconds
        await self.hub.drain(CloseCode.SERVICE_RESTART, "the server is restarting", seconds * 0.9)
        await self.listener.wait_empty(end - self.loop.time())
        self.listener.drop_all()
        await asyncio.sleep(0)
        self.audit.record(Event.SHUTDOWN)
        self.audit.flush()

    # What the parts report.

    def end_sessions(self, sessions: frozenset[SessionId]) -> None:
        """Close the open connections of sessions that ended."""
        self.hub.end_sessions(sessions, CloseCode.CREDENTIAL_EXPIRED, "session ended")

    def renew_session(self, identity: Identity) -> None:
        """Let the open connections of a renewed session go on, with the rights of now."""
        self.hub.renew_session(identity, identity.expires_at - self.clock.wall())

    def addresses_changed(self) -> None:
        """Let new address lists hold for what is open."""
        self.listener.enforce_rules()
        for connection in list(self.hub.connections):
            if not self.addresses.rules.permits(connection.address):
                connection.close(CloseCode.FORBIDDEN, "address not permitted")

    def report(self, connection: Connection, error: Exception) -> None:
        """Log what application code raised."""
        logger.error("callback of connection %s failed", connection.id, exc_info=error)

    def connection_closed(self, connection: Connection) -> None:
        """Write the line of a connection's end."""
        code = "" if connection.close_code is None else f"{connection.close_code} "
        self.audit.record(
            Event.CONNECTION_CLOSED,
            connection=connection.id,
            address=connection.address,
            user=connection.identity.user,
            session=connection.identity.session or "",
            detail=f"{code}{connection.close_reason}".strip(),
        )


def policy_of(settings: Settings, port: int, application: Sockade) -> Policy:
    """Return what handshakes are compared with."""
    server, credentials = settings.server, settings.credentials
    names = {name.lower() for name in server.names}
    if is_loopback(server.host):
        names.update(LOOPBACK_NAMES)
    if server.host not in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not bound to
        names.add(server.host.lower())
    allowed = {origin for text in settings.origins.allowed if (origin := canonical_origin(text)) is not None}
    switches = {
        Carrier.COOKIE: credentials.cookie,
        Carrier.BEARER: credentials.bearer,
        Carrier.TICKET: credentials.ticket,
    }
    return Policy(
        names=frozenset(names),
        origins=own_origins(names, port) | allowed,
        paths=frozenset(application.endpoints) | ({CHANNELS} if application.channels.declared else set()),
        carriers=frozenset(carrier for carrier, on in switches.items() if on),
    )


def loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop: uvloop where it is installed and wanted."""
    if settings.server.loop == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if settings.server.loop == "uvloop":
            raise SettingsError(["server.loop is uvloop, which is not installed; install it or set auto."]) from None
        return None
    return uvloop.new_event_loop


def connector(settings: Settings, loop: asyncio.AbstractEventLoop) -> Connect:
    """Return what runs TLS on an accepted socket: aiofastnet where it is installed and wanted, else the loop."""
    if settings.server.fast:
        try:
            return functools.partial(
                importlib.import_module("aiofastnet").connect_accepted_socket,
                loop,
                ssl_incoming_bio_size=INCOMING_BYTES,
                ssl_outgoing_bio_size=OUTGOING_BYTES,
            )
        except ImportError:
            pass
    return loop.connect_accepted_socket
