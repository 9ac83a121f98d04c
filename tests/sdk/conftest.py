"""A running server with channels of every kind, another issuer of tokens, and the official SDKs as its clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.running import ROOMY, RunningServer
from tests.sdk.clients import JavaScript, Python, Sdk
from tests.security.issuer import AUD, ISS, by_hmac, claims, compact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

SECRET = b"a secret of more than two hundred and fifty-six bits"
APPLICATION = """
import msgspec

from sockade import Connection, History, RejectedError, Sockade, hours

app = Sockade()
sent = []

class Open:
    def may_publish(self, identity, **variables):
        return True

class Closed(Open):
    def may_subscribe(self, identity, **variables):
        return False

app.channel("room:{name}", history=History(100, hours(1)), presence=True, join_leave=True)(Open)
app.channel("live")(Open)
app.channel("closed:{name}", history=History(10, hours(1)), token=True)(Closed)
app.channel("mine:{user}", history=History(10, hours(1)), personal=True)(Open)
app.channel("price", history=History(1, hours(1), durable=False, latest_only=True))(Open)

class Sum(msgspec.Struct):
    a: int
    b: int

@app.rpc("sum")
async def add(connection: Connection, data: Sum) -> int:
    if data.a == 0:
        raise RejectedError("no zero", 400)
    return data.a + data.b

@app.rpc("sent")
async def told(connection: Connection, data: object) -> list:
    return sent

@app.rpc("admin")
async def admin(connection: Connection, data: dict) -> object:
    user = connection.identity.user
    if data["do"] == "subscribe":
        return await app.subscribe(user, data["channel"], data={"why": "told"})
    if data["do"] == "unsubscribe":
        return app.unsubscribe(user, data["channel"])
    if data["do"] == "message":
        return app.send(user, {"hello": user})
    return app.disconnect(user)

@app.rpc("room_token")
async def room_token(connection: Connection, data: dict) -> str:
    return app.subscription_token(connection.identity.user, data["channel"], seconds=data["seconds"])

@app.on_send
async def take(connection: Connection, data: object) -> None:
    sent.append(data)
"""
CONFIG = f"""
[limits]
{ROOMY}ping_seconds = 1
[credentials]
first_message = true
query_ticket = true
[issuers.corp]
issuer = "{ISS}"
audience = "{AUD}"
secret_file = "corp.secret"
"""


class NewSdk(Protocol):
    """Return a client of a server, which shows `headers` at the handshake."""

    def __call__(self, server: RunningServer, headers: dict[str, str], path: str = "", /) -> Sdk: ...


class Meet(Protocol):
    """Return one more client, which shows `headers` at the handshake."""

    def __call__(self, headers: dict[str, str] | None = None, path: str = "") -> Sdk: ...


def signed(user: str = "ada", *, typ: str = "at+jwt", **changes: Any) -> str:
    """Return a token of the other issuer, whose users are called `corp:NAME` here."""
    return compact({"alg": "HS256", "typ": typ}, claims(sub=user, **changes), by_hmac(SECRET))


def bearer(user: str = "ada", **changes: Any) -> dict[str, str]:
    """Return the header that says who one is."""
    return {"Authorization": f"Bearer {signed(user, **changes)}"}


def serve(folder: Path, config: str) -> Iterator[RunningServer]:
    """Start a server, and end it."""
    (folder / "sdk_application.py").write_text(APPLICATION)
    server = RunningServer(folder / "server", config, "sdk_application:app", module_path=str(folder))
    secret = server.folder / "corp.secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests of a module, where many clients have one address."""
    yield from serve(tmp_path_factory.mktemp("sdk"), CONFIG)


@pytest.fixture
def by_default(tmp_path: Path) -> Iterator[RunningServer]:
    """One with the default limits."""
    yield from serve(tmp_path, CONFIG.replace(ROOMY, ""))


@pytest.fixture(params=[JavaScript, Python], ids=["javascript", "python"])
def sdk(request: pytest.FixtureRequest) -> NewSdk:
    """Each of the SDKs."""
    one: NewSdk = request.param
    return one


@pytest.fixture
async def meet(sdk: NewSdk, served: RunningServer) -> AsyncIterator[Meet]:
    """Make clients of one SDK; each ends with the test."""
    clients: list[Sdk] = []

    def one_more(headers: dict[str, str] | None = None, path: str = "") -> Sdk:
        clients.append(sdk(served, headers if headers is not None else {}, path))
        return clients[-1]

    yield one_more
    for client in clients:
        await client.end()
