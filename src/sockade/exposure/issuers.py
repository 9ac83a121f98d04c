"""Which issuers are refused: without a name, an audience or keys of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sockade.exposure.files import secret
from sockade.settings import HMAC_ALGORITHMS, IssuerSettings, Settings, is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator


def issuers(settings: Settings) -> Iterator[str]:
    """Say what is wrong with the issuers and their keys."""
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
        yield from secret(f"{table}.secret_file", issuer.secret_file)
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
