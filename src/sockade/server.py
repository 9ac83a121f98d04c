"""The only place where everything is put together: provision, serve, drain."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import signal
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uvicorn.server import ServerState

from sockade.api.application import http_application
from sockade.api.auth import auth_routes
from sockade.api.endpoint import Desk
from sockade.api.server_api import NodeFacts, admin_limits, server_api_routes
from sockade.assembly import admin_context, authority_of, declare_channels, loop_factory, policy_of, taken
from sockade.brokers.memory import MemoryBroker
from sockade.brokers.routed import RoutedBroker
from sockade.brokers.sqlite import SqliteBroker
from sockade.chat import chat_application
from sockade.clock import SystemClock
from sockade.doors.admission import Admission
from sockade.doors.connect import connector
from sockade.doors.descriptors import make_room
from sockade.doors.http import HttpDoor, http_config
from sockade.doors.listener import Listener
from sockade.doors.ports import bind
from sockade.doors.reload import CurrentAddresses, CurrentContext, Reloading
from sockade.errors import SettingsError
from sockade.exposure import problems, weakened
from sockade.guard.addresses import AddressRules
from sockade.guard.limiter import Limiter
from sockade.guard.policy import Policy, own_origins, served_names
from sockade.identity.api_keys import read_api_key
from sockade.identity.attempts import Attempts
from sockade.identity.authority import Authority
from sockade.identity.keys import ServerKeys
from sockade.identity.passwords import Passwords
from sockade.messaging.channel_protocol import PATH as CHANNELS
from sockade.messaging.channel_protocol import ChannelProtocol
from sockade.messaging.client import Services
from sockade.messaging.control import Control
from sockade.messaging.hub import SWEEP_SECONDS, Hub
from sockade.messaging.node import Node
from sockade.protocol.codes import CloseCode
from sockade.protocol.events import Event
from sockade.settings import is_loopback
from sockade.storage.database import Database
from sockade.telemetry.audit import AuditTrail
from sockade.watchdog import Watchdog

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from sockade.doors.peer import Peer
    from sockade.guard.identity import Identity, SessionId
    from sockade.identity.api_keys import ApiKey
    from sockade.messaging.application import Sockade
    from sockade.messaging.connection import Connection
    from sockade.settings import Settings

INTERRUPTED = 130
"""128 + SIGINT: what shells expect of a program that was interrupted."""


END_SECONDS = 15.0
"""How long the process may take to end once everyone has had their time; closing the databases takes the most."""

logger = logging.getLogger("sockade.server")


@dataclass(frozen=True, slots=True)
class Started:
    """What the operator is told once the port is open."""

    url: str
    link: str | None
    """A sign-in link, as long as nobody could sign in with a password."""
    api: str | None
    """The address of the server API, where there is a key for it."""
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
    key = read_api_key(settings.api_key_path)
    with ExitStack() as stack:
        sockets = taken(stack, bind(settings.server.host, settings.server.port))
        make_room(sockets[0], settings.limits.connections + settings.limits.unauthenticated)
        administration = None
        if key is not None:
            admin = settings.admin
            administration = Administration(key, taken(stack, bind(admin.host, admin.port, "admin")))
        server = Server(settings, application, sockets, administration)
        stack.callback(server.watchdog.stop)
        runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory(settings)))
        return runner.run(server.serve(announce))


@dataclass(frozen=True, slots=True)
class Administration:
    """What the admin listener is made with."""

    key: ApiKey
    sockets: list[socket.socket]

    @property
    def port(self) -> int:
        """The port that it was given."""
        port: int = self.sockets[0].getsockname()[1]
        return port


class Server:
    """One process: everything that is constructed, and when it ends."""

    def __init__(
        self,
        settings: Settings,
        application: Sockade | None,
        sockets: list[socket.socket],
        administration: Administration | None = None,
    ) -> None:
        self.settings = settings
        self.sockets = sockets
        self.administration = administration
        self.port: int = sockets[0].getsockname()[1]
        self.clock = SystemClock()
        self.pages = application is None
        self.application = application or chat_application()
        declare_channels(settings, self.application)
        self.policy = policy_of(settings, self.port, self.application)
        self.weakened = tuple(weakened(settings))
        self.watchdog = Watchdog()
        self.draining = False
        self.status = 0
        self.broker: RoutedBroker | None = None
        self.node: Node | None = None

    async def serve(self, announce: Callable[[Started], None]) -> int:
        """Provision, serve until told to stop, and drain."""
        async with AsyncExitStack() as stack:
            await self.provision(stack)
            stop = asyncio.Event()
            self.loop.add_signal_handler(signal.SIGTERM, stop.set)
            self.loop.add_signal_handler(signal.SIGINT, self.interrupt, stop)
            self.loop.add_signal_handler(signal.SIGHUP, self.reloading.hurry)
            self.listener.start(self.sockets)
            if self.administration is not None and self.admin_listener is not None:
                self.admin_listener.start(self.administration.sockets)
            self.audit.record(Event.STARTUP, detail=f"port {self.port}")
            announce(await self.started())
            # What is there by now stays: it need not be looked through each time the collector looks for circles.
            gc.collect()
            gc.freeze()
            tasks = [*self.keep_house(), asyncio.create_task(self.reloading.run())]
            await stop.wait()
            self.watchdog.start(self.settings.server.drain_seconds + END_SECONDS, self.loop, lambda: self.status)
            for task in tasks:
                task.cancel()
            await self.drain()
        return self.status

    def interrupt(self, stop: asyncio.Event) -> None:
        """Stop on Ctrl-C, and at once on the second."""
        if stop.is_set():
            for listener in self.listeners:
                listener.drop_all()
        self.status = INTERRUPTED
        stop.set()

    async def provision(self, stack: AsyncExitStack) -> None:
        """Construct every part, each with its collaborators; `stack` closes what must be closed."""
        settings, limits = self.settings, self.settings.limits
        self.loop = asyncio.get_running_loop()
        self.audit = AuditTrail(self.clock)
        self.tls = CurrentContext(settings, self.clock)
        self.addresses = CurrentAddresses(settings.addresses)
        self.admin_tls = admin_context(settings, self.tls, self.clock)
        self.reloading = Reloading({self.tls, self.admin_tls}, self.addresses, self.addresses_changed)
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
            Limiter(limits),
            self.report,
            self.connection_closed,
            self.authority.seen,
        )
        control = await self.open_channels(stack)
        self.application.bind(self.hub, control, self.authority.subscription_token)
        self.admission = Admission(
            self.policy, limits, self.application, self.authority, self.hub, self.audit, self.clock
        )
        self.http_state = ServerState()
        self.listener = Listener(
            self.loop,
            limits,
            lambda: self.addresses.rules,
            self.hub.limiter.judge_peer,
            lambda: self.tls.context,
            self.door(),
            connector(self.loop, settings.server),
            self.audit,
            self.clock,
        )
        self.admin_listener = self.administer(self.administration, control) if self.administration else None
        self.listeners = [self.listener, *([self.admin_listener] if self.admin_listener else [])]

    async def open_channels(self, stack: AsyncExitStack) -> Control | None:
        """Start the channels, where any are declared, and the endpoint that speaks their protocol."""
        application = self.application
        if not application.speaks_channels:
            return None
        disk = SqliteBroker(self.settings.server.data_dir, self.clock)
        self.broker = RoutedBroker(disk, MemoryBroker(self.clock), application.channels.is_durable)
        self.node = Node(self.broker, application.channels, self.clock, application.listeners)
        await self.node.start()
        stack.push_async_callback(self.broker.close)
        services = Services(
            self.node,
            functools.partial(self.authority.verify, origin=None),
            self.authority.grant,
            application.procedures,
            application.send_handler,
        )
        application.endpoints[CHANNELS] = ChannelProtocol(services).endpoint()
        return Control(self.node)

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

    def administer(self, administration: Administration, control: Control | None) -> Listener:
        """Return the listener of the server API: the public one's parts, with names, limits and rules of its own."""
        settings, admin = self.settings, self.settings.admin
        limits = admin_limits(settings.limits, admin.body_bytes)
        # No page may connect here, and no path speaks WebSocket.
        policy = Policy(served_names(admin.host, settings.server.names), origins=frozenset(), paths=frozenset())
        desk = Desk(
            self.authority,
            settings.model_copy(update={"limits": limits}),
            self.audit,
            self.clock,
            policy,
            frozenset(),
            Attempts(limits),
            public_origin="",
        )
        node = NodeFacts(self.clock.short_id(), self.url.removeprefix("https://"), self.clock.monotonic())
        routes = server_api_routes(desk, administration.key, control, node)
        config = http_config(
            http_application(routes, policy, self.audit, self.clock, self.unready, self.weakened, pages=False)
        )
        admission = Admission(policy, limits, self.application, self.authority, self.hub, self.audit, self.clock)
        local = AddressRules()  # [addresses] and bans are about clients; whoever is on this machine is none.
        is_local = is_loopback(admin.host)
        return Listener(
            self.loop,
            limits,
            (lambda: local) if is_local else (lambda: self.addresses.rules),
            (lambda _key, _now: None) if is_local else self.hub.limiter.judge_peer,
            (lambda: self.admin_tls.context) if admin.tls else None,
            lambda peer: HttpDoor(config, self.http_state, peer, admission, limits, self.audit, self.loop),
            connector(self.loop, settings.server) if admin.tls else self.loop.connect_accepted_socket,
            self.audit,
            self.clock,
        )

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        server = self.settings.server
        return f"https://{authority_of(server.names[0] if server.names else server.host, self.port)}"

    @property
    def api_url(self) -> str | None:
        """Where the server API is; None where there is no key for it."""
        if self.administration is None:
            return None
        admin, names = self.settings.admin, self.settings.server.names
        host = names[0] if names and not is_loopback(admin.host) else admin.host
        return f"{'https' if admin.tls else 'http'}://{authority_of(host, self.administration.port)}/api"

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
            api=self.api_url,
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

    def keep_house(self) -> list[asyncio.Task[None]]:
        """Begin what is done once a second. None of it waits for another: a disk that hangs holds up no deadline."""
        chores: list[tuple[Callable[[], Awaitable[None] | None], str]] = [
            (self.hub.sweep, "cannot look at the deadlines of connections"),
            (self.authority.poll, "cannot look for ended sessions"),
        ]
        if self.node is not None:
            chores.append((self.node.sweep, "cannot look after channels"))
        return [asyncio.create_task(repeat(chore, trouble)) for chore, trouble in chores]

    async def drain(self) -> None:
        """Take nothing new, tell everyone to come back later, and wait for them within the limit."""
        self.draining = self.admission.draining = True
        for listener in self.listeners:
            listener.stop()
        for connection in list(self.http_state.connections):
            connection.shutdown()
        seconds = self.settings.server.drain_seconds
        end = self.loop.time() + seconds
        await self.hub.drain(CloseCode.SERVICE_RESTART, "the server is restarting", seconds * 0.9)
        for listener in self.listeners:
            await listener.wait_empty(end - self.loop.time())
            listener.drop_all()
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
        for listener in self.listeners:
            listener.enforce_rules()
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


async def repeat(chore: Callable[[], Awaitable[None] | None], trouble: str) -> None:
    """Do something once a second, and go on when it failed."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            done = chore()
            if done is not None:
                await done
        except Exception:
            logger.exception(trouble)
