"""What is weaker than the default: started with, and said at every start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockade.settings import AdminSettings, IssuerSettings, Section, Settings, is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

# How many there may be in all is the size of the machine, not a guard.
CAPACITY = frozenset({"limits.connections", "limits.total_messages_per_second"})


def weakened(settings: Settings) -> list[str]:
    """Return one sentence for each setting that is weaker than its default."""
    found = []
    if settings.origins.allowed:
        found.append(f"origins.allowed lets pages of {', '.join(settings.origins.allowed)} connect.")
    if settings.limits.compression:
        found.append("limits.compression lets a message cost more memory than what came of it.")
    if settings.credentials.first_message:
        found.append("credentials.first_message lets strangers hold open sockets until their first message.")
    if settings.credentials.query_ticket:
        found.append("credentials.query_ticket lets tickets stand in URLs, which histories and proxies keep.")
    if settings.addresses.trusted_proxies:
        proxies = ", ".join(map(str, settings.addresses.trusted_proxies))
        found.append(f"addresses.trusted_proxies lets {proxies} say which address a client has.")
    if not is_loopback(settings.admin.host):
        found.append(f"admin.host lets other machines reach the server API on {settings.admin.host}.")
    if not settings.admin.tls:
        found.append("admin.tls is off: whoever takes the port before the server does is shown the API key.")
    if settings.admin.body_bytes > AdminSettings().body_bytes:
        found.append(
            f"admin.body_bytes is {settings.admin.body_bytes}, above the default of {AdminSettings().body_bytes}."
        )
    for name, issuer in settings.issuers.items():
        longest = IssuerSettings().token_seconds
        if issuer.token_type.lower() != "at+jwt":
            found.append(f'issuers.{name}.token_type is "{issuer.token_type}", which other tokens may have as well.')
        if issuer.token_seconds > longest:
            found.append(f"issuers.{name}.token_seconds is {issuer.token_seconds:g}, above the default of {longest:g}.")
    found += [
        f"{table}.{key} is {value:g}, above the default of {default:g}."
        for table in ("credentials", "sessions", "limits")
        for key, value, default in _changed(getattr(settings, table))
        if f"{table}.{key}" not in CAPACITY and value > default
    ]
    return found


def _changed(section: Section) -> Iterator[tuple[str, float, float]]:
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value != field.default:
            yield key, value, field.default
