"""`sockade token`: issue an access token for a user, say what is in one, take tokens back, change the signing key."""

import asyncio
import json
import sys
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sockade.cli.identities import open_database
from sockade.cli.options import ConfigOption, DataDirOption, JsonOption, settings_from
from sockade.clock import SystemClock
from sockade.errors import UsageError
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Carrier, Credential, Secret
from sockade.identity.authority import Authority
from sockade.identity.endings import Endings
from sockade.identity.grants import TYPE as SUBSCRIPTION
from sockade.identity.grants import SubscriptionTokens
from sockade.identity.issuers import is_typed
from sockade.identity.keys import ServerKeys
from sockade.identity.names import folded
from sockade.identity.passwords import Passwords
from sockade.identity.recognized import Recognized
from sockade.identity.revocations import Revocations
from sockade.identity.sessions import Sessions
from sockade.identity.stores import RevocationKind, SessionKind, User
from sockade.identity.tokens import AccessTokens
from sockade.settings import Settings

if TYPE_CHECKING:
    from sockade.storage.database import Database

app = typer.Typer(
    name="token",
    help="Issue, inspect and revoke access tokens; rotate the key.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FINDINGS = 1
LONGEST = 16_384
TIMES = ("exp", "iat", "nbf")


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user whom the token is for.")],
    channel: Annotated[
        str, typer.Option("--channel", metavar="CHANNEL", help="A subscription token for this channel instead.")
    ] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Sign a user in and write an access token to standard output; with --json its refresh token too.

    With --channel it is a token to subscribe to that channel with, and nobody is signed in.
    """
    settings = settings_from(config, data_dir)
    answer = asyncio.run(_issue_for_channel(settings, name, channel) if channel else _issue(settings, name))
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.echo(answer["token" if channel else "access_token"])
        where = f" in {channel}" if channel else ""
        typer.echo(f"For {answer['user']}{where}, good for {answer['expires_in']} s.", err=True)


@app.command()
def inspect(
    token: Annotated[
        str, typer.Argument(metavar="[TOKEN]", help="The token; without it, the first line of standard input.")
    ] = "",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show what a token says and whether this server would accept it; exit status 1 if not."""
    settings = settings_from(config, data_dir)
    text = (token or sys.stdin.readline(LONGEST)).strip()
    for label, part in zip(("header", "claims"), _parts(text), strict=True):
        typer.echo(f"{label}  {json.dumps(part)}")
        for key in TIMES:
            if isinstance(part.get(key), int | float):
                typer.echo(f"  {key}   {_moment(part[key])}")
    verdict = asyncio.run(_judge(settings, text))
    if isinstance(verdict, Refuse):
        typer.echo(f"refused  {verdict.reason}: {verdict.detail}")
        raise typer.Exit(FINDINGS)
    typer.echo(f"good     for {verdict}")


@app.command()
def rotate(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Make a new signing key; tokens of the old one are good until they expire."""
    settings = settings_from(config, data_dir)
    keys = ServerKeys.rotate(settings.server.data_dir, now=SystemClock().wall())
    typer.echo(f"New tokens are signed with {keys.signing_kid}.")


@app.command()
def revoke(
    jti: Annotated[str, typer.Option("--jti", metavar="ID", help="One token, by its claim jti.")] = "",
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="What was issued to a user.")] = "",
    everyone: Annotated[bool, typer.Option("--all", help="What was issued to anyone.")] = False,
    before: Annotated[
        str, typer.Option("--before", metavar="TIME", help="With --user or --all: issued before, in ISO 8601; now.")
    ] = "",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Revoke tokens, end the sessions behind them, and close their connections within two seconds."""
    if sum(map(bool, (jti, user, everyone))) != 1 or (jti and before):
        raise UsageError("Name one of --jti, --user and --all; --before goes with the last two.")
    settings = settings_from(config, data_dir)
    clock = SystemClock()
    moment = _parsed(before) if before else clock.wall()
    if moment > clock.wall():
        raise UsageError("--before is in the future.")
    known = asyncio.run(_revoke(settings, clock, jti, user, moment))
    typer.echo("Revoked.")
    if not known:
        typer.echo(f"But there is no user {user} here; was another one meant? sockade user list shows all.", err=True)


async def _revoke(settings: Settings, clock: SystemClock, jti: str, user: str, before: float) -> bool:
    """Revoke, and tell whether what is named may be known: of tokens and other issuers' users nothing is kept."""
    kind = RevocationKind.TOKEN if jti else RevocationKind.USER if user else RevocationKind.ALL
    async with open_database(settings) as database:
        revocations = Revocations(database.revocations, clock)
        await revocations.revoke(kind, jti or folded(user), before=before, reason="revoked")
        return not user or ":" in user or await database.users.get(user) is not None


def _parsed(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError("--before is a time such as 2030-01-31T12:00:00Z.") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


async def _issue_for_channel(settings: Settings, name: str, channel: str) -> dict[str, Any]:
    clock = SystemClock()
    async with open_database(settings) as database:
        user = await _user(database, name)
    keys = ServerKeys.open(settings.server.data_dir, now=clock.wall())
    token = SubscriptionTokens(keys, settings.credentials, clock).issue(user.name, channel)
    seconds = int(settings.credentials.access_token_seconds)
    return {"user": user.name, "channel": channel, "token": token.reveal(), "expires_in": seconds}


async def _user(database: "Database", name: str) -> User:
    user = await database.users.get(name)
    if user is None or user.disabled_at is not None:
        raise UsageError("There is no such user: sockade user list." if user is None else "The user is disabled.")
    return user


async def _issue(settings: Settings, name: str) -> dict[str, Any]:
    clock = SystemClock()
    async with open_database(settings) as database:
        user = await _user(database, name)
        endings = Endings(database.sessions, clock, remember_seconds=settings.credentials.access_token_seconds)
        sessions = Sessions(database.sessions, endings, settings.sessions, clock, Recognized())
        started = await sessions.start(
            user, SessionKind.TOKEN, address="", user_agent="sockade token new", proved_by=None
        )
        if isinstance(started, Refuse):
            raise UsageError("The user was disabled or changed meanwhile.")
        session, refresh = started
        access, seconds = _tokens(settings).issue(session)
        return {
            "user": user.name,
            "access_token": access.reveal(),
            "refresh_token": refresh.reveal(),
            "expires_in": seconds,
        }


def _tokens(settings: Settings) -> AccessTokens:
    clock = SystemClock()
    keys = ServerKeys.open(settings.server.data_dir, now=clock.wall())
    return AccessTokens(keys, settings.credentials, clock)


async def _judge(settings: Settings, text: str) -> str | Refuse:
    """Return whom a token is good for, and for what; or why the server would refuse it."""
    clock = SystemClock()
    passwords = Passwords()
    try:
        async with open_database(settings) as database:
            keys = ServerKeys.open(settings.server.data_dir, now=clock.wall())
            authority = Authority(settings, clock, store=database, keys=keys, passwords=passwords)
            # What was revoked and which sessions ended: a running server learns it as well, each second.
            await authority.poll()
            return await _ask(authority, settings, text)
    finally:
        passwords.close()


async def _ask(authority: Authority, settings: Settings, text: str) -> str | Refuse:
    header, claims = _parts(text)
    issuers = settings.issuers.items()
    types = (SUBSCRIPTION, *(issuer.subscription_token_type for _, issuer in issuers))
    if not any(is_typed(str(header.get("typ")), wanted) for wanted in types):
        identity = await authority.verify(Credential(Carrier.BEARER, Secret(text)), origin=None)
        return identity if isinstance(identity, Refuse) else identity.user
    # A client shows it for a channel, on a connection of its user's.
    names = [f"{name}:" for name, issuer in issuers if issuer.issuer == claims.get("iss")]
    user = f"{names[0] if names else ''}{claims.get('sub')}"
    grant = await authority.grant(Secret(text), user, str(claims.get("channel")))
    return grant if isinstance(grant, Refuse) else f"{grant.user}, to subscribe to {grant.channel}"


def _parts(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims, without having verified anything. Raises UsageError."""
    segments = text.split(".")
    try:
        header, claims = (json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in segments[:2])
    except (ValueError, RecursionError):
        header = claims = None
    if len(segments) != 3 or not isinstance(header, dict) or not isinstance(claims, dict):
        raise UsageError("This is not a JSON Web Token.")
    return header, claims


def _moment(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "out of range"
