from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette

from sockade.api.auth import auth_routes
from sockade.settings import LimitSettings, OriginSettings, Settings
from tests.api.asgi import Answer, Client, Trail
from tests.identity.world import ORIGIN, PASSWORD, World, world

JSON = ("content-type", "application/json")


@dataclass
class Site:
    """The endpoints on a world, and a client."""

    world: World
    client: Client
    trail: Trail

    async def post(
        self, path: str, body: object = None, *, origin: str | None = None, cookie: str = "", bearer: str = ""
    ) -> Answer:
        return await self.call("POST", path, body, origin=origin, cookie=cookie, bearer=bearer)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        origin: str | None = None,
        cookie: str = "",
        bearer: str = "",
        more: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        headers = [("host", "localhost:8443"), ("user-agent", "test"), *more]
        headers += [("origin", origin)] if origin is not None else []
        headers += [("cookie", f"a=b; __Host-sockade={cookie}")] if cookie else []
        headers += [("authorization", f"Bearer {bearer}")] if bearer else []
        content = msgspec.json.encode(body) if body is not None else b""
        headers += [JSON] if content else []
        return await self.client.send(method, path, headers, [content])

    async def login(self, user: str = "ana", **more: Any) -> Answer:
        """Sign a page in."""
        body = {"username": user, "password": PASSWORD.reveal()}
        answer = await self.post("/auth/login", body, origin=ORIGIN, **more)
        assert answer.status == 200
        return answer

    async def tokens(self, user: str = "ana") -> Any:
        """Sign a native client in."""
        body = {"username": user, "password": PASSWORD.reveal(), "grant": "token"}
        return (await self.post("/auth/login", body)).json


Open = Callable[[Settings], Awaitable[Site]]


def site_of(made: World) -> Site:
    trail = Trail()
    routes = auth_routes(made.authority, made.settings, trail, made.clock, own_origins=[ORIGIN], public_origin=ORIGIN)
    return Site(made, Client(Starlette(routes=routes)), trail)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    settings = Settings(
        limits=LimitSettings(body_bytes=2_000), origins=OriginSettings(allowed=("https://app.example",))
    )
    async with world(tmp_path / "data", settings) as made:
        yield site_of(made)
