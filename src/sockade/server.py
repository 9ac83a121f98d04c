"""The only place where everything is put together."""

from __future__ import annotations

import asyncio
import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uvicorn.server import ServerState

from sockade.api.application import http_application
from sockade.api.auth import auth_routes
from sockade.api.endpoint import Desk
from sockade.api.server_api import NodeFacts, admin_limits, server_api_routes
from sockade.assembly import admin_context, authority_of, declare_channels, policy_of
from sockade.brokers.memory import MemoryBroker
from sockade.brokers.routed import RoutedBroker
from sockade.brokers.sqlite import SqliteBroker
from sockade.chat import chat_application
from sockade.clock import SystemClock
from sockade.doors.admission import Admission
from sockade.doors.connect import connector
from sockade.doors.http import HttpDoor, http_config
from sockade.doors.listener import Listener
from sockade.doors.reload import CurrentAddresses, CurrentContext, Reloading
from sockade.exposure import weakened
from sockade.guard.addresses import AddressRules
from sockade.guard.limiter import Limiter
from sockade.guard.policy import Policy, own_origins, served_names
from sockade.identity.attempts import Attempts
from sockade.identity.authority import Authority
from sockade.identity.keys import ServerKeys
from sockade.identity.passwords import Passwords
from sockade.messaging.channel_protocol import PATH as CHANNELS
from sockade.messaging.channel_protocol import ChannelProtocol
from sockade.messaging.client import Services
from sockade.messaging.control import Control
from sockade.messaging.hub import Hub
from sockade.messaging.node import Node
from sockade.protocol.codes import CloseCode
from sockade.protocol.events import Event
from sockade.settings import is_loopback
from sockade.storage.database import Database
from sockade.telemetry.audit import AuditTrail

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from sockade.doors.peer import Peer
    from sockade.guard.identity import Identity, SessionId
    from sockade.identity.api_keys import ApiKey
    from sockade.messaging.application import Sockade
    from sockade.messaging.connection import Connection
    from sockade.settings import Settings

logger = logging.getLogger("sockade.server")


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
    """Everything that is constructed, and what its parts report."""

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
        self.draining = False
        self.listeners: list[Listener] = []
        self.broker: RoutedBroker | None = None
        self.node: Node | None = None

    async def provision(self, stack: AsyncExitStack) -> None:
        """Construct every part, each with its collaborators; `stack` closes what must be closed."""
        settings, limits = self.settings, self.settings.limits
        self.loop = asyncio.get_running_loop()
        self.audit = AuditTrail(self.clock)
        self.tls = CurrentContext(settings, self.clock)
        self.addresses = CurrentAddresses(settings.addresses)
        has_own = self.administration is not None and settings.admin.tls
        self.admin_tls = admin_context(settings, self.tls, self.clock) if has_own else self.tls
        self.reloading = Reloading({self.tls, self.admin_tls}, self.addresses, self.addresses_changed)
        self.database = await Database.open(settings.server.data_dir)
        stack.push_async_callback(self.database.close)
        passwords = Passwords()
        stack.callback(passwords.close)
        keys = ServerKeys.open(settings.server.data_dir, now=self.clock.wall())
        self.authority = Authority(settings, self.clock, store=self.database, keys=keys, passwords=passwords)
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
        self.authority.on_revoke(self.node.end_revoked)
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

    def unready(self) -> list[str]:
        """Return what keeps this server from taking new connections."""
        problems = [*(["draining"] if self.draining else []), *self.database.failures]
        if self.broker is not None and self.broker.failure:
            problems.append(self.broker.failure)
        return problems

    def listen(self) -> None:
        """Take connections from now on."""
        self.listener.start(self.sockets)
        if self.administration is not None and self.admin_listener is not None:
            self.admin_listener.start(self.administration.sockets)

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

    def report(self, connection: Connection, error: BaseException) -> None:
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
