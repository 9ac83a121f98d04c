"""Every setting, with its safe default.

Where values come from is `sockade.configuration`; which combinations are refused is `sockade.exposure`. A limit
carries its unit in its name. Settings are frozen: what the server started with is what it runs with.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


def _written(value: object) -> object:
    # `ip_network` takes numbers and bytes too: 1 would be 0.0.0.1/32.
    if not isinstance(value, str | IPv4Network | IPv6Network):
        raise PydanticCustomError("ip_text", "must be a text")
    return value


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_written)]
Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]
Count = Annotated[int, Field(ge=1, le=100_000_000)]
ByteCount = Annotated[int, Field(ge=1, le=1 << 30)]
Rate = Annotated[float, Field(gt=0, le=10_000_000)]
Port = Annotated[int, Field(ge=0, le=65_535)]


def _nameable(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("no path holds a NUL")
    return path


def _named(value: object) -> object:
    # To Python "" is the working directory: a variable that is not set would strew keys and databases over it.
    if value == "":
        raise PydanticCustomError("path_text", "must name a file or folder")
    return value


FilePath = Annotated[Path, BeforeValidator(_named), AfterValidator(_nameable)]


class Section(BaseModel):
    """One table of `sockade.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        # To Python true is 1: `port = true` would listen on port 1.
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise PydanticCustomError("number", "must be a number")
        return value


class ServerSettings(Section):
    """`[server]`: where it listens, what it is called, where it keeps its data."""

    host: str = "127.0.0.1"
    port: Port = 8443
    data_dir: FilePath = Path(".sockade")
    names: tuple[str, ...] = ()
    """Host names this server answers to. On loopback `localhost` and the loopback addresses are added."""
    drain_seconds: Annotated[float, Field(gt=0, le=300)] = 30
    """How long a stop may take from the signal to the last connection."""
    loop: Literal["auto", "uvloop", "asyncio"] = "auto"
    fast: bool = True
    """Use aiofastnet for sockets and TLS when it is installed."""
    read_buffer_bytes: Annotated[int, Field(ge=512, le=65_536)] = 1_024
    """What aiofastnet's TLS takes from the system in one call; each connection has that much memory for it."""
    write_buffer_bytes: Annotated[int, Field(ge=512, le=65_536)] = 6_144
    """What it gives to the system in one call, likewise: a message that is larger takes more calls."""


class TlsSettings(Section):
    """`[tls]`: certificate and key as PEM files; with neither, and only on loopback, a local CA makes them."""

    certificate: FilePath | None = None
    key: FilePath | None = None
    client_ca: FilePath | None = None
    """Whose certificates clients must show; without it none is asked for."""


class OriginSettings(Section):
    """`[origins]`: which pages may connect, besides the server's own."""

    allowed: tuple[str, ...] = ()


class AddressSettings(Section):
    """`[addresses]`: who may connect at all. Without an allow-list everyone may who is not denied."""

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    allow_file: FilePath | None = None
    """More of each, one network a line, read again whenever the file changes."""
    deny_file: FilePath | None = None
    trusted_proxies: tuple[Network, ...] = ()
    """Whose X-Forwarded-For and Forwarded are believed."""


class CredentialSettings(Section):
    """`[credentials]`: which carriers are accepted, and how long what this server issues lives."""

    cookie: bool = True
    bearer: bool = True
    ticket: bool = True
    first_message: bool = False
    """Let the channel protocol's `connect` carry the token: until then a stranger holds an open socket."""
    query_ticket: bool = False
    """Let a ticket stand in the URL, which ends up in logs and histories."""
    issuer: Annotated[str, Field(min_length=1)] = "sockade"
    audience: Annotated[str, Field(min_length=1)] = "sockade"
    access_token_seconds: Annotated[float, Field(gt=0, le=900)] = 300
    leeway_seconds: Annotated[float, Field(ge=0, le=60)] = 30
    ticket_seconds: Annotated[float, Field(gt=0, le=60)] = 30
    link_seconds: Annotated[float, Field(gt=0, le=86_400)] = 3_600


HMAC_ALGORITHMS = ("HS256", "HS384", "HS512")
Algorithm = Literal[
    "EdDSA", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "HS256", "HS384", "HS512"
]


class IssuerSettings(Section):
    """`[issuers.NAME]`: somebody else whose access tokens are accepted; their users are called `NAME:sub`."""

    issuer: str = ""
    audience: str = ""
    jwks_url: str | None = None
    keys_file: FilePath | None = None
    secret_file: FilePath | None = None
    kid: str | None = None
    """The id of the one key in a PEM or secret file; unset means that tokens carry none."""
    algorithms: tuple[Algorithm, ...] = ()
    """Of one family; empty means EdDSA and ES256, or HS256 where there is a secret."""
    token_type: Annotated[str, Field(min_length=1)] = "at+jwt"  # noqa: S105 - a media type
    subscription_token_type: Annotated[str, Field(min_length=1)] = "subscription+jwt"  # noqa: S105 - a media type
    """`typ` of its tokens for one channel; another one than that of its access tokens."""
    token_seconds: Annotated[float, Field(gt=0, le=86_400)] = 900
    role_claim: str = ""
    scope_claim: str = "scope"

    @property
    def accepted(self) -> tuple[str, ...]:
        """The algorithms that are accepted."""
        return self.algorithms or (("HS256",) if self.secret_file is not None else ("EdDSA", "ES256"))


class SessionSettings(Section):
    """`[sessions]`: how long a sign-in lasts."""

    idle_seconds: Seconds = 1_800
    absolute_seconds: Seconds = 28_800
    per_user: Count = 10
    refresh_seconds: Seconds = 86_400
    """Of a family of refresh tokens, which ends with its session at the latest."""
    refresh_grace_seconds: Annotated[float, Field(ge=0, le=60)] = 10
    """How long the immediate predecessor of a refresh token still works: two tabs refresh at once."""


class LimitSettings(Section):
    """`[limits]`: how much of everything."""

    # Deadlines are absolute: a byte now and then extends nothing.
    tls_seconds: Seconds = 10
    head_seconds: Seconds = 10
    handshake_seconds: Seconds = 15
    response_seconds: Seconds = 30
    """From a request to the last byte that the client took of its response."""
    close_seconds: Seconds = 5

    # 8 KiB a line is what nginx and Apache allow.
    request_line_bytes: ByteCount = 8_192
    header_bytes: ByteCount = 8_192
    headers: Count = 64
    head_bytes: ByteCount = 16_384
    body_bytes: ByteCount = 65_536

    message_bytes: ByteCount = 65_536
    message_fragments: Count = 128
    message_seconds: Seconds = 30
    incomplete_bytes: ByteCount = 64 * 1_048_576
    compression: bool = False
    """Accept compressed messages; what is sent is never compressed."""

    ping_seconds: Seconds = 25
    pong_seconds: Seconds = 8

    # Rates are token buckets: a burst at once, and so much a second from then on.
    messages_per_second: Rate = 10
    message_burst: Count = 20
    message_bytes_per_second: ByteCount = 65_536
    message_bytes_burst: ByteCount = 262_144
    user_factor: Annotated[float, Field(ge=1, le=1_000)] = 2
    """How many times the allowance of one connection all connections of a user share."""
    total_messages_per_second: Rate = 20_000
    violations_per_minute: Count = 10
    """Messages that may be rejected before the connection is closed with 1008."""
    handshakes_per_minute: Count = 30
    """New connections of one address."""
    ban_strikes: Count = 3
    """Closings with 1008 before the user and the address are refused for a while."""
    ban_seconds: Seconds = 60
    ban_most_seconds: Seconds = 3_600
    """A ban is twice as long each time, up to this."""

    outbox_bytes: ByteCount = 1_048_576
    outbox_messages: Count = 256
    stall_seconds: Seconds = 5
    """A write that makes no progress for this long counts as slow."""

    sign_ins_per_minute: Count = 10
    """Sign-ins that fail, of one address and at one user name."""
    guesses_per_minute: Count = 30
    """Cookies and tokens of one address that are none."""

    connections: Count = 10_000
    connections_per_address: Count = 20
    connections_per_user: Count = 5
    unauthenticated: Count = 2_000


VARIABLE = r"\{[a-z_][a-z0-9_]*\}"
RIGHT = re.compile(rf"everyone|owner|role:[a-z][a-z0-9_-]{{0,31}}|scope:(?:[!-z|~]|{VARIABLE})+")


def _right(text: str) -> str:
    if RIGHT.fullmatch(text) is None:
        raise PydanticCustomError("right", "must be everyone, owner, role:NAME or scope:NAME")
    return text


Right = Annotated[str, AfterValidator(_right)]
"""Who: `everyone` who is admitted; `owner`, the user whom the variable `user` names; a role; a scope, in which a
variable of the pattern may stand."""
Rights = tuple[Right, ...]


class ChannelSettings(Section):
    """`[channels.NAME]`: channels whose names fit a pattern, and who may do what in them. One right is enough."""

    pattern: str = ""
    """Such as `room:{name}`; unset, the one channel that is called NAME."""
    subscribe: Rights = ("everyone",)
    publish: Rights = ()
    see_presence: Rights | None = None
    """Unset: whoever may subscribe."""
    see_history: Rights | None = None
    token: bool = False
    """Whether a subscription token for the channel lets its user subscribe as well."""
    personal: bool = False
    """Every connection of the user whom the variable `user` names is subscribed by the server, and nobody else may."""
    history_size: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    history_seconds: Annotated[float, Field(ge=0, le=366 * 86_400)] = 0
    cache: bool = False
    """Whoever comes gets the latest publication, instead of all that was missed."""
    durability: Literal["disk", "memory"] = "disk"
    """What an acknowledgement outlives: the loss of power, or nothing."""
    presence: bool = False
    join_leave: Literal["off", "connection", "user"] = "off"
    """Whether others are told who comes and goes: each connection, or each user with all tabs once."""
    messages_per_second: Annotated[float, Field(ge=0, le=10_000_000)] = 0
    """Publications a second of one user in one channel; 0 for no limit besides those of `[limits]`."""
    message_burst: Count = 10
    schema_file: FilePath | None = None
    """The JSON Schema that publications of clients must fit."""


class AdminSettings(Section):
    """`[admin]`: where the server API listens. It does where there is an API key, and nowhere without one."""

    host: str = "127.0.0.1"
    port: Port = 8444
    tls: bool = True
    """Off, and only on loopback, it speaks HTTP without TLS."""
    api_key_file: FilePath | None = None
    """Unset: `api.key` in the data directory, which `sockade init` makes."""
    body_bytes: ByteCount = 1_048_576


class LogSettings(Section):
    """`[log]`: `auto` is readable on a terminal and JSON elsewhere."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """All of them."""

    server: ServerSettings = ServerSettings()
    tls: TlsSettings = TlsSettings()
    origins: OriginSettings = OriginSettings()
    addresses: AddressSettings = AddressSettings()
    credentials: CredentialSettings = CredentialSettings()
    issuers: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")], IssuerSettings] = {}
    sessions: SessionSettings = SessionSettings()
    limits: LimitSettings = LimitSettings()
    channels: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")], ChannelSettings] = {}
    admin: AdminSettings = AdminSettings()
    log: LogSettings = LogSettings()

    @property
    def api_key_path(self) -> Path:
        """Where the API key is, if there is one."""
        return self.admin.api_key_file or self.server.data_dir / "api.key"


def is_loopback(host: str) -> bool:
    """Tell whether listening on `host` reaches this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False  # A name may resolve to anything.
