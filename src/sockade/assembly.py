"""Makes single parts of the server from the settings: what handshakes are compared with, the loop, the transports.

`sockade.server` alone puts them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockade.doors.reload import CurrentContext
from sockade.errors import SettingsError, UsageError
from sockade.guard.identity import Carrier
from sockade.guard.origin import canonical_origin
from sockade.guard.policy import LOOPBACK_NAMES, Policy, own_origins, served_names
from sockade.messaging.channel_protocol import PATH as CHANNELS
from sockade.messaging.channels import configured
from sockade.settings import is_loopback

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable
    from contextlib import ExitStack

    from sockade.clock import Clock
    from sockade.messaging.application import Sockade
    from sockade.settings import Settings


def declare_channels(settings: Settings, application: Sockade) -> None:
    """Add the channels of the settings to those of the application, and take no more. Raises SettingsError."""
    try:
        for name, channel in settings.channels.items():
            application.channels.add(configured(name, channel))
    except UsageError as error:
        raise SettingsError([f"channels.{name}: {error}."]) from error
    unheard = [name for name in application.listeners if application.channels.find(name) is None]
    if unheard:
        raise SettingsError([f"app.listen: no channel {name!r} is declared." for name in unheard])
    application.complete()


def policy_of(settings: Settings, port: int, application: Sockade) -> Policy:
    """Return what handshakes are compared with."""
    credentials = settings.credentials
    names = served_names(settings.server.host, settings.server.names)
    allowed = {origin for text in settings.origins.allowed if (origin := canonical_origin(text)) is not None}
    switches = {
        Carrier.COOKIE: credentials.cookie,
        Carrier.BEARER: credentials.bearer,
        Carrier.TICKET: credentials.ticket,
    }
    return Policy(
        names=names,
        origins=own_origins(names, port) | allowed,
        paths=frozenset(application.endpoints) | ({CHANNELS} if application.speaks_channels else set()),
        carriers=frozenset(carrier for carrier, on in switches.items() if on),
        first_message=CHANNELS if credentials.first_message and application.speaks_channels else None,
        query_ticket=credentials.query_ticket,
    )


def authority_of(host: str, port: int) -> str:
    """Return the authority of a URL (RFC 3986 §3.2) with this machine called by its name."""
    if host in LOOPBACK_NAMES:
        host = "localhost"
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def admin_context(settings: Settings, public: CurrentContext, clock: Clock) -> CurrentContext:
    """Return the TLS context of the admin listener.

    On loopback it is that of the local CA: no public certificate is for a name of this machine, and whoever could not
    verify it would rather not look at all.
    """
    if settings.tls.certificate is None or not is_loopback(settings.admin.host):
        return public
    local = settings.tls.model_copy(update={"certificate": None, "key": None})
    return CurrentContext(settings.model_copy(update={"tls": local}), clock)


def taken(stack: ExitStack, sockets: list[socket.socket]) -> list[socket.socket]:
    """Return sockets that are closed at the end, whatever happens."""
    for sock in sockets:
        stack.callback(sock.close)
    return list(sockets)


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
