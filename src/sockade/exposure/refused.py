"""What is refused: each rule reads settings, or asks of the files they name, and says what is wrong and what to do."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING

from sockade.exposure import files
from sockade.exposure.issuers import issuers
from sockade.settings import Settings, is_loopback

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

HOST_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){HOST_LABEL}(?:\.{HOST_LABEL})*", re.IGNORECASE)
ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[^/:@?#\[\]]+)(?::([1-9][0-9]{0,4}))?", re.IGNORECASE)

VARIABLE = re.compile(r"\{(\w*)\}")

PAIR = ("tls.certificate", "tls.key")
FITTING = ("outbox_bytes", "incomplete_bytes", "message_bytes_burst")
"""The limits that the longest message has to fit."""


def problems(settings: Settings, now: datetime | None = None, broken: Collection[str] = ()) -> list[str]:
    """Return one sentence for each combination the server refuses to start with; empty means it may start.

    `broken` names keys, or whole tables, that are already known to be wrong: rules that read them are left out.
    """
    moment = now or datetime.now(UTC)

    def sound(*keys: str) -> bool:
        return not any({key, key.partition(".")[0]} & set(broken) for key in keys)

    found: list[str] = []
    if sound("server.host", *PAIR):
        found += _exposed(settings)
    if sound("server.host", "server.names", *PAIR):
        found += _pair(settings, moment)
    if sound("admin.host", "admin.tls", *PAIR):
        found += _admin(settings)
    if sound("admin.api_key_file", "server.data_dir"):
        found += _api_key(settings)
    if sound("tls.client_ca"):
        found += files.client_ca(settings.tls.client_ca, moment)
    if sound("server.data_dir"):
        found += files.data_dir(settings.server.data_dir)
    if sound("server.names"):
        found += _names(settings)
    if sound("origins.allowed", "credentials.cookie"):
        found += _origins(settings)
    if sound("credentials.cookie", "credentials.bearer", "credentials.ticket"):
        found += _carriers(settings)
    if sound("addresses.allow_file", "addresses.deny_file", "addresses.trusted_proxies"):
        found += _addresses(settings)
    if sound("issuers", *(key for key in broken if key.startswith("credentials."))):
        found += issuers(settings)
    if sound("channels"):
        found += _channels(settings)
    if sound("limits.message_bytes", *(f"limits.{key}" for key in FITTING)):
        found += _limits(settings)
    return found


def _exposed(settings: Settings) -> Iterator[str]:
    server, tls = settings.server, settings.tls
    if is_loopback(server.host) or tls.key is not None:  # A key alone is reported with the pair.
        return
    if tls.certificate is None:
        yield (
            f'server.host is "{server.host}", which others can reach, but there is no certificate: '
            "set tls.certificate and tls.key, or listen on 127.0.0.1."
        )


def _pair(settings: Settings, now: datetime) -> Iterator[str]:
    certificate, key = settings.tls.certificate, settings.tls.key
    if certificate is None and key is None:
        return
    if certificate is None:
        yield "tls.key is set without tls.certificate: set both."
    elif key is None:
        yield "tls.certificate is set without tls.key: set both."
    else:
        yield from files.certificate(certificate, now)
        yield from files.key(key, certificate)
        hosts = (settings.server.host, settings.admin.host)
        if not all(map(is_loopback, hosts)) and not settings.server.names:
            yield "server.names is empty: list the host names that clients use for this server."


def _admin(settings: Settings) -> Iterator[str]:
    admin = settings.admin
    if is_loopback(admin.host):
        return
    if not admin.tls:
        yield f'admin.tls is off and admin.host is "{admin.host}", which others can reach: switch it on.'
    if settings.tls.certificate is None and settings.tls.key is None:
        yield (
            f'admin.host is "{admin.host}", which others can reach, but there is no certificate: '
            "set tls.certificate and tls.key, or listen on 127.0.0.1."
        )


def _api_key(settings: Settings) -> Iterator[str]:
    path = settings.api_key_path
    # Without a key there is no server API; only one that is named has to be there.
    if settings.admin.api_key_file is not None or os.path.exists(path):
        yield from files.secret("admin.api_key_file", path, is_text=True)


def _names(settings: Settings) -> Iterator[str]:
    for name in settings.server.names:
        if not _is_host(name):
            yield (
                f"server.names holds {name!r}, which is not a host name: "
                'write it without scheme, port or wildcard, such as "chat.example.com".'
            )


def _origins(settings: Settings) -> Iterator[str]:
    for origin in settings.origins.allowed:
        if "*" in origin:
            reason = (
                "any page could use a visitor's cookie: "
                if settings.credentials.cookie
                else "an origin is compared whole: "
            )
            yield f'origins.allowed holds "{origin}", but {reason}list each origin, such as "https://app.example.com".'
        elif not _exact(origin):
            yield (
                f"origins.allowed holds {origin!r}, which is not an exact origin: "
                'write scheme and host, and the port if it is not 443, such as "https://app.example.com:8443".'
            )


def _exact(origin: str) -> bool:
    match = ORIGIN.fullmatch(origin)
    if match is None:
        return False
    scheme, host, port = match.groups()
    if scheme.lower() == "http" and host.lower() != "localhost":
        return False
    return _is_host(host.strip("[]"), bracketed=host.startswith("[")) and int(port or 0) <= 65_535


def _is_host(host: str, *, bracketed: bool = False) -> bool:
    if ":" in host or bracketed:
        try:
            return ip_address(host).version == 6
        except ValueError:
            return False
    return HOST_NAME.fullmatch(host) is not None


def _addresses(settings: Settings) -> Iterator[str]:
    addresses = settings.addresses
    for key in ("allow_file", "deny_file"):
        path = getattr(addresses, key)
        if path is not None and isinstance(found := files.networks_in(path, key), str):
            yield found
    for network in addresses.trusted_proxies:
        if network.prefixlen == 0:
            yield (
                f'addresses.trusted_proxies holds "{network}": everybody could claim any address, '
                'list the proxies, such as "10.0.0.5/32".'
            )


def _carriers(settings: Settings) -> Iterator[str]:
    accepted = settings.credentials
    if not (accepted.cookie or accepted.bearer or accepted.ticket):
        yield "credentials.cookie, credentials.bearer and credentials.ticket are all off: switch one on."
    if accepted.query_ticket and not accepted.ticket:
        yield "credentials.query_ticket is on and credentials.ticket off: switch both on or both off."


def _channels(settings: Settings) -> Iterator[str]:
    for name, channel in settings.channels.items():
        table = f"channels.{name}"
        if (channel.history_size > 0) != (channel.history_seconds > 0):
            yield f"{table} has only one of history_size and history_seconds: set both, or neither."
        if channel.cache and not channel.history_size:
            yield f"{table}.cache gives the latest publication, but none is kept: set history_size and history_seconds."
        if channel.personal and set(VARIABLE.findall(channel.pattern)) != {"user"}:
            yield f"{table}.personal needs a pattern with {{user}} and no other variable, such as news:{{user}}."
        if channel.personal and channel.subscribe not in (("everyone",), ("owner",)):
            yield f"{table}.personal is for its user alone: leave {table}.subscribe out."
        if channel.schema_file is not None and not channel.schema_file.is_file():
            yield f"{table}.schema_file ({channel.schema_file}) is not a file: name a JSON Schema."


def _limits(settings: Settings) -> Iterator[str]:
    limits = settings.limits
    for key in FITTING:
        if getattr(limits, key) < limits.message_bytes:
            yield f"limits.{key} is smaller than limits.message_bytes: no message of that size could pass, raise it."
