"""Decides which settings are refused together, and names what is weaker than the default.

This is "secure or refuse": each rule reads settings and the files they name, and answers with sentences that say
which setting is wrong and what to do. Single values are judged by the models in `sockade.settings`.
"""

from __future__ import annotations

import os
import re
import stat
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sockade.settings import HMAC_ALGORITHMS, AdminSettings, IssuerSettings, Section, Settings, is_loopback

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from sockade.settings import Network

HOST_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){HOST_LABEL}(?:\.{HOST_LABEL})*", re.IGNORECASE)
ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[^/:@?#\[\]]+)(?::([1-9][0-9]{0,4}))?", re.IGNORECASE)

VARIABLE = re.compile(r"\{(\w*)\}")

HMAC_BYTES = 32  # RFC 7518 §3.2

PAIR = ("tls.certificate", "tls.key")

# How many there may be in all is the size of the machine, not a guard.
CAPACITY = frozenset({"limits.connections", "limits.total_messages_per_second"})


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
        found += _client_ca(settings.tls.client_ca, moment)
    if sound("server.data_dir"):
        found += _data_dir(settings.server.data_dir)
    if sound("server.names"):
        found += _names(settings)
    if sound("origins.allowed", "credentials.cookie"):
        found += _origins(settings)
    if sound("credentials.cookie", "credentials.bearer", "credentials.ticket"):
        found += _carriers(settings)
    if sound("addresses.allow_file", "addresses.deny_file", "addresses.trusted_proxies"):
        found += _addresses(settings)
    if sound("issuers", *(key for key in broken if key.startswith("credentials."))):
        found += _issuers(settings)
    if sound("channels"):
        found += _channels(settings)
    if sound("limits.outbox_bytes", "limits.incomplete_bytes", "limits.message_bytes"):
        found += _limits(settings)
    return found


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
        yield from _certificate(certificate, now)
        yield from _key(key, certificate)
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
        yield from _secret("admin.api_key_file", path)


def _certificate(path: Path, now: datetime) -> Iterator[str]:
    leaf = _leaf(path)
    if isinstance(leaf, str):
        yield leaf
    elif leaf.not_valid_after_utc <= now:
        yield f"tls.certificate ({path}) expired on {leaf.not_valid_after_utc:%Y-%m-%d}: renew it."
    elif leaf.not_valid_before_utc > now:
        yield (
            f"tls.certificate ({path}) is not valid before {leaf.not_valid_before_utc:%Y-%m-%d}: "
            "check this machine's clock or use another."
        )


def _leaf(path: Path) -> x509.Certificate | str:
    try:
        # The certificate of the server comes first (RFC 8446 §4.4.2).
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        return f"tls.certificate ({path}) cannot be read ({error.strerror}): name a PEM file this user can read."
    except ValueError:
        return f"tls.certificate ({path}) is not a PEM certificate: name a file with the certificate and its chain."


def _key(path: Path, certificate: Path) -> Iterator[str]:
    try:
        status, data = path.stat(), path.read_bytes()
    except OSError as error:
        yield f"tls.key ({path}) cannot be read ({error.strerror}): name a PEM file this user can read."
        return
    if _open_to_others(status):
        yield f"tls.key ({path}) can be read by others: run `chmod 600 {path}`."
    try:
        public = load_pem_private_key(data, None).public_key()
    except TypeError:
        yield f"tls.key ({path}) is encrypted: name a file with the key in plain PEM, readable by this user alone."
        return
    except (ValueError, UnsupportedAlgorithm):
        yield f"tls.key ({path}) is not a PEM private key."
        return
    leaf = _leaf(certificate)
    if not isinstance(leaf, str) and leaf.public_key() != public:
        yield f"tls.certificate ({certificate}) does not belong to tls.key ({path}): name a matching pair."


def _client_ca(path: Path | None, now: datetime) -> Iterator[str]:
    if path is None:
        return
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        yield f"tls.client_ca ({path}) cannot be read ({error.strerror}): name a PEM file this user can read."
    except ValueError:
        yield f"tls.client_ca ({path}) is not a PEM certificate: name a file with the CA that signs clients."
    else:
        if all(certificate.not_valid_after_utc <= now for certificate in found):
            yield f"tls.client_ca ({path}) expired: no client could connect, name the CA that signs them now."


def _open_to_others(status: os.stat_result) -> bool:
    # PostgreSQL's rule: a key that root owns may be readable by one group, as Debian's ssl-cert or a mounted
    # secret is; nothing else may be readable by anyone but the owner.
    mode = stat.S_IMODE(status.st_mode)
    return bool(mode & (0o027 if status.st_uid == 0 else 0o077))


def _data_dir(path: Path) -> Iterator[str]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return  # It is made with the right mode.
    except OSError as error:
        yield f"server.data_dir ({path}) cannot be used ({error.strerror}): name a folder this user owns."
        return
    if not stat.S_ISDIR(status.st_mode):
        yield f"server.data_dir ({path}) is not a folder: name another."
    elif stat.S_IMODE(status.st_mode) & 0o077:
        yield f"server.data_dir ({path}) can be read by others: run `chmod 700 {path}`."


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


def _names(settings: Settings) -> Iterator[str]:
    for name in settings.server.names:
        if not _is_host(name):
            yield (
                f"server.names holds {name!r}, which is not a host name: "
                'write it without scheme, port or wildcard, such as "chat.example.com".'
            )


def _addresses(settings: Settings) -> Iterator[str]:
    addresses = settings.addresses
    for key in ("allow_file", "deny_file"):
        path = getattr(addresses, key)
        if path is not None and isinstance(found := networks_in(path, key), str):
            yield found
    for network in addresses.trusted_proxies:
        if network.prefixlen == 0:
            yield (
                f'addresses.trusted_proxies holds "{network}": everybody could claim any address, '
                'list the proxies, such as "10.0.0.5/32".'
            )


def networks_in(path: Path, key: str) -> tuple[Network, ...] | str:
    """Return the networks of an address file, one a line with comments after `#`; or one sentence on what is wrong.

    `key` is `allow_file` or `deny_file`. An allow-list without a network is wrong: it is what is left of a file that
    could not be written, and nobody could connect.
    """
    setting = f"addresses.{key} ({path})"
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        return f"{setting} cannot be read ({error.strerror}): name a file this user can read."
    except UnicodeDecodeError:
        return f"{setting} is not text: write one network a line."
    found = []
    for number, line in enumerate(lines, 1):
        if text := line.partition("#")[0].strip():
            try:
                found.append(ip_network(text))
            except ValueError:
                return f"{setting} line {number} is not a network such as 10.0.0.0/8 or 2001:db8::/32: mend it."
    if not found and key == "allow_file":
        return f"{setting} holds no network: nobody could connect, list those who may."
    return tuple(found)


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


def _issuers(settings: Settings) -> Iterator[str]:
    taken = {settings.credentials.issuer: "credentials.issuer"}
    for name, issuer in settings.issuers.items():
        table = f"issuers.{name}"
        if not issuer.issuer:
            yield f"{table}.issuer is not set: write what its tokens have as iss."
        elif issuer.issuer in taken:
            yield f"{table}.issuer is that of {taken[issuer.issuer]} too: each issuer has a name of its own."
        taken.setdefault(issuer.issuer, f"{table}.issuer")
        if not issuer.audience:
            yield f"{table}.audience is not set: tokens for any service would be accepted, write what aud must be."
        if issuer.subscription_token_type.lower() == issuer.token_type.lower():
            yield f"{table}.subscription_token_type is its token_type too: a token for one channel would open them all."
        yield from _keys_of(table, issuer)


def _keys_of(table: str, issuer: IssuerSettings) -> Iterator[str]:
    sources = [key for key in ("jwks_url", "keys_file", "secret_file") if getattr(issuer, key) is not None]
    if len(sources) != 1:
        yield f"{table} needs exactly one of jwks_url, keys_file and secret_file: it has {len(sources)}."
    symmetric = [name for name in issuer.accepted if name in HMAC_ALGORITHMS]
    if symmetric and len(symmetric) != len(issuer.accepted):
        yield f"{table}.algorithms mixes HMAC and public keys: a public key could pass for a secret, name one family."
    elif symmetric and issuer.secret_file is None:
        yield f"{table}.algorithms is HMAC, whose key is secret: set secret_file, or name algorithms of public keys."
    elif not symmetric and issuer.secret_file is not None:
        yield f"{table}.secret_file is for HMAC: name HS256 in algorithms, or set keys_file."
    if issuer.jwks_url is not None and not _fetchable(issuer.jwks_url):
        yield f"{table}.jwks_url must be https:// with a host and no user; http:// is for loopback only."
    if issuer.secret_file is not None:
        yield from _secret(f"{table}.secret_file", issuer.secret_file)
    elif issuer.keys_file is not None and not issuer.keys_file.is_file():
        yield f"{table}.keys_file ({issuer.keys_file}) is not a file: name a key set or a public key in PEM."


def _fetchable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    host = parts.hostname
    if not host or parts.username is not None or not (url.isascii() and url.isprintable() and " " not in url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def _secret(setting: str, path: Path) -> Iterator[str]:
    try:
        status, content = path.stat(), path.read_bytes()
    except OSError as error:
        yield f"{setting} ({path}) cannot be read ({error.strerror}): name a file with the secret."
        return
    if _open_to_others(status):
        yield f"{setting} ({path}) can be read by others: run `chmod 600 {path}`."
    if len(content.rstrip(b"\r\n")) < HMAC_BYTES:
        yield f"{setting} ({path}) is shorter than {8 * HMAC_BYTES} bits: make one with `openssl rand -base64 48`."


def _limits(settings: Settings) -> Iterator[str]:
    limits = settings.limits
    for key in ("outbox_bytes", "incomplete_bytes"):
        if getattr(limits, key) < limits.message_bytes:
            yield f"limits.{key} is smaller than limits.message_bytes: no message of that size could pass, raise it."
