"""`sockade bench`: how fast does a server of one's own answer, as its clients see it?

It opens connections as any client would, certificate checked and with a token, and sends until the time is over. It
asks for little by default, so that the default limits of a server are not what is measured. How Sockade compares with
other servers is `make bench` of the repository.
"""

import asyncio
import json
import math
import os
import secrets
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from sockade.cli.options import ConfigOption, DataDirOption, JsonOption, settings_from
from sockade.configuration import BENCH_TOKEN as TOKEN
from sockade.errors import StartError, UsageError
from sockade.guard.identity import Secret
from sockade.settings import is_loopback

FINDINGS = 1
DEFAULT_URL = "wss://localhost:8443/"
MOST_CLIENTS, MOST_SECONDS, MOST_RATE = 1_000, 60, 10_000
LEAST_BYTES, MOST_BYTES = 64, 32_768
MOST_TOKEN = 16_384
OPEN_SECONDS = 10
PATIENCE_SECONDS = 5.0
"""How long a message may be on its way before it counts as lost."""


class Work(StrEnum):
    """What the clients do."""

    FAN_OUT = "fan-out"
    ECHO = "echo"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for. `rate` is messages a second and sender; 0: the next as soon as the last has arrived."""

    url: str
    token: Secret
    context: ssl.SSLContext
    work: Work
    clients: int
    seconds: float
    rate: float
    size: int


@dataclass(slots=True)
class Tally:
    """What was seen. Times are in seconds."""

    run: str = field(default_factory=lambda: secrets.token_hex(8))
    handshakes: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    due: int = 0
    took: float = 0.0
    ended: list[str] = field(default_factory=list)
    """Why connections ended that should not have."""

    @property
    def lost(self) -> int:
        return self.due - len(self.latencies)

    def text(self, number: int, size: int) -> str:
        """Return the text of a message; nobody else's begins like it."""
        return f"bench {self.run} {number} ".ljust(size, ".")

    def number(self, message: str | bytes) -> int | None:
        """Return the number of a message of this run; None for everything else that is said on the connection."""
        parts = message.split(" ", 3) if isinstance(message, str) else []
        return int(parts[2]) if len(parts) == 4 and parts[:2] == ["bench", self.run] else None


def bench(
    url: Annotated[str, typer.Argument(metavar="[URL]", help="An endpoint of your own server.")] = DEFAULT_URL,
    work: Annotated[Work, typer.Option(help="Does the endpoint tell everyone else, or the sender?")] = Work.FAN_OUT,
    clients: Annotated[int, typer.Option(min=2, max=MOST_CLIENTS, metavar="N", help="Connections.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, max=MOST_SECONDS, metavar="S", help="How long to send.")] = 5,
    rate: Annotated[
        float,
        typer.Option(
            min=0, max=MOST_RATE, metavar="R", help="Messages a second and sender; 0: as fast as they arrive."
        ),
    ] = 8,
    size: Annotated[int, typer.Option(min=LEAST_BYTES, max=MOST_BYTES, metavar="B", help="Bytes a message.")] = 128,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help=f"Read the access token from standard input, not from {TOKEN}.")
    ] = False,
    owned: Annotated[
        bool, typer.Option("--i-own-this-host", help="Say so; without it only this machine itself is measured.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Measure a server of your own; exit status 1 if messages were lost or connections ended."""
    check_url(url, owned=owned)
    token = read_token(from_stdin=token_stdin)
    context = client_context(settings_from(config, data_dir).server.data_dir / "ca.pem")
    tally = asyncio.run(measure(Plan(url, token, context, work, clients, seconds, rate, size)))
    typer.echo(json.dumps(figures(tally)) if as_json else told(tally))
    raise typer.Exit(FINDINGS if tally.lost or tally.ended else 0)


def check_url(url: str, *, owned: bool) -> None:
    """Refuse what is not encrypted, and hosts that nobody has said are their own. Raises UsageError."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme != "wss" or parts.username is not None or parts.fragment:
        raise UsageError(f"The URL is like {DEFAULT_URL}: wss://, a host, and neither user nor fragment.")
    if not is_loopback(host) and not owned:
        raise UsageError(f"{host} is not this machine: if it is yours, say so with --i-own-this-host.")


def client_context(authority: Path) -> ssl.SSLContext:
    """Return a client's context that trusts the local CA too, where there is one. Raises StartError."""
    context = ssl.create_default_context()
    try:
        if authority.exists():
            context.load_verify_locations(authority)
    except OSError as error:  # ssl.SSLError is one, and names no file
        why = getattr(error, "reason", None) or error.strerror
        raise StartError(f"The local CA {authority} cannot be used ({why}): name another with --data-dir.") from error
    return context


def read_token(*, from_stdin: bool) -> Secret:
    """Return the access token, which never stands in an argument. Raises UsageError."""
    text = sys.stdin.readline(MOST_TOKEN).strip() if from_stdin else os.environ.get(TOKEN, "").strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(f"There is no token: pipe `sockade token new NAME` into --token-stdin, or set {TOKEN}.")
    return Secret(text)


async def measure(plan: Plan) -> Tally:
    """Open the connections, work, and close them. Raises StartError where one cannot be opened."""
    tally = Tally()
    connections: list[ClientConnection] = []
    try:
        for _ in range(plan.clients):
            start = time.perf_counter()
            connections.append(await opened(plan))
            tally.handshakes.append(time.perf_counter() - start)
        start = time.perf_counter()
        await (echo if plan.work is Work.ECHO else fan_out)(plan, connections, tally)
        tally.took = time.perf_counter() - start
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))
    return tally


class Straight(connect):
    """A client that follows no redirect, which would take the token to where nobody asked it to go."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def opened(plan: Plan) -> ClientConnection:
    """Return an open connection. Raises StartError with what the server said instead."""
    headers = {"Authorization": f"Bearer {plan.token.reveal()}"}
    try:
        return await Straight(
            plan.url,
            ssl=plan.context,
            additional_headers=headers,
            compression=None,
            proxy=None,
            open_timeout=OPEN_SECONDS,
        )
    except InvalidStatus as error:
        detail = bytes(error.response.body or b"")[:200].decode(errors="replace").strip()
        raise StartError(f"{plan.url} refused with HTTP {error.response.status_code}. {detail}".strip()) from None
    except (InvalidHandshake, InvalidURI, ConnectionClosed) as error:
        raise StartError(f"{plan.url} does not speak WebSocket: {error}.") from None
    except (OSError, TimeoutError) as error:
        raise StartError(f"{plan.url} cannot be reached ({str(error) or 'no answer'}).") from None


async def echo(plan: Plan, connections: list[ClientConnection], tally: Tally) -> None:
    """Let every client send, wait for its own message, and send the next."""

    async def work(connection: ClientConnection) -> None:
        async def ask(number: int) -> None:
            start = time.perf_counter()
            tally.due += 1
            await connection.send(tally.text(number, plan.size))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while tally.number(await connection.recv()) != number:
                    pass
            tally.latencies.append(time.perf_counter() - start)

        await repeat(plan, ask, tally)

    await asyncio.gather(*map(work, connections))


async def fan_out(plan: Plan, connections: list[ClientConnection], tally: Tally) -> None:
    """Let the first client send, and all others hear it; the next message is sent when all have the last."""
    sender, *hearers = connections
    current, missing, sent_at = -1, 0, 0.0
    complete = asyncio.Event()

    async def hear(connection: ClientConnection) -> None:
        nonlocal missing
        async for message in connection:
            if tally.number(message) == current:
                tally.latencies.append(time.perf_counter() - sent_at)
                missing -= 1
                if not missing:
                    complete.set()
        note(tally, connection)

    async def ask(number: int) -> None:
        nonlocal current, missing, sent_at
        current, missing, sent_at = number, len(hearers), time.perf_counter()
        complete.clear()
        tally.due += len(hearers)
        await sender.send(tally.text(number, plan.size))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await complete.wait()

    tasks = [asyncio.create_task(hear(connection)) for connection in hearers]
    try:
        await repeat(plan, ask, tally)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def repeat(plan: Plan, ask: Callable[[int], Awaitable[None]], tally: Tally) -> None:
    """Ask again and again at the plan's rate until the time is over; the first message that is lost ends it."""
    start = time.perf_counter()
    number = 0
    while (now := time.perf_counter()) < start + plan.seconds:
        due_at = start + number / plan.rate if plan.rate else now
        if due_at > now:
            await asyncio.sleep(min(due_at, start + plan.seconds) - now)
            continue
        try:
            await ask(number)
        except TimeoutError:
            return
        except ConnectionClosed as closed:
            tally.ended.append(str(closed))
            return
        number += 1


def note(tally: Tally, connection: ClientConnection) -> None:
    """Write down why a connection ended."""
    tally.ended.append(f"closed with {connection.close_code} {connection.close_reason}".strip())


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of all does not exceed; NaN of none."""
    return sorted(values)[math.ceil(len(values) * share) - 1] if values else math.nan


def figures(tally: Tally) -> dict[str, object]:
    """Return what `--json` writes; times are in milliseconds."""

    def milliseconds(values: list[float]) -> dict[str, float | None]:
        shares = {"p50_ms": 0.5, "p99_ms": 0.99, "most_ms": 1.0}
        return {name: round(percentile(values, at) * 1e3, 3) if values else None for name, at in shares.items()}

    return {
        "connections": len(tally.handshakes),
        "handshake": milliseconds(tally.handshakes),
        "delivered": len(tally.latencies),
        "lost": tally.lost,
        "a_second": round(len(tally.latencies) / tally.took, 1),
        "latency": milliseconds(tally.latencies),
        "ended": tally.ended,
    }


def told(tally: Tally) -> str:
    """Return the figures as lines to read."""

    def times(values: list[float]) -> str:
        found = ", ".join(f"{name} {percentile(values, at) * 1e3:.1f}" for name, at in (("p50", 0.5), ("p99", 0.99)))
        return f"{found}, most {max(values, default=math.nan) * 1e3:.1f} ms"

    lines = [
        f"connections  {len(tally.handshakes)}, handshake {times(tally.handshakes)}",
        f"delivered    {len(tally.latencies):,} of {tally.due:,}, {len(tally.latencies) / tally.took:,.0f} a second",
        f"latency      {times(tally.latencies)}" if tally.latencies else "latency      nothing arrived",
    ]
    return "\n".join(lines + [f"ended        {why}" for why in dict.fromkeys(tally.ended)])
