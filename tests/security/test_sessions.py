"""Cases 38 to 45, from outside: how sessions end, go on, and what reaches sockets that are open."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.running import PASSWORD, ROOMY, Answer, RunningServer, close_code

if TYPE_CHECKING:
    from tests.running import Start

LIMITS = f"[limits]\n{ROOMY}"
TWO = 2.6
"""Two seconds, and what a loaded machine takes to tell."""


def refresh(server: RunningServer, token: str) -> Answer:
    return server.http("POST", "/auth/refresh", {"refresh_token": token})


def page(server: RunningServer, cookie: str) -> dict[str, str]:
    return {"Origin": server.origin, "Cookie": cookie}


@pytest.fixture
def roomy(start: Start) -> RunningServer:
    return start(LIMITS)


async def test_the_end_of_a_token_is_told_and_then_closes(start: Start) -> None:
    """Case 38."""
    server = start(f"[credentials]\naccess_token_seconds = 3\n{LIMITS}")
    token = server.token()
    async with server.connect(token=token, subprotocols=["sockade"]) as socket:
        begun = time.monotonic()
        # Told 60 s before, or at once where less is left.
        told = json.loads(await asyncio.wait_for(socket.recv(), 3))
        assert 0 < told["sockade"]["expires_in"] <= 3
        assert await close_code(socket, 10) == 3000
        assert time.monotonic() - begun < 3 + 5


async def test_renewal_keeps_the_socket_and_misses_nothing(start: Start) -> None:
    """Case 39."""
    server = start(f"[credentials]\naccess_token_seconds = 4\n{LIMITS}")
    tokens, other = server.tokens("ada"), server.tokens("bob")
    async with server.connect(token=tokens["access_token"]) as socket:
        end = time.monotonic() + 7
        heard, said = [], 0
        while time.monotonic() < end:
            tokens = refresh(server, tokens["refresh_token"]).json
            other = refresh(server, other["refresh_token"]).json
            async with server.connect(token=other["access_token"]) as speaker:
                await speaker.send(str(said))
                said += 1
            heard.append(await asyncio.wait_for(socket.recv(), 3))
            await asyncio.sleep(0.5)
        assert heard == [str(number) for number in range(said)]


async def test_another_users_renewal_prolongs_nothing(start: Start) -> None:
    """Case 39."""
    server = start(f"[credentials]\naccess_token_seconds = 2\n{LIMITS}")
    server.add_user("ada")
    theirs, mine = server.tokens("bob"), server.tokens("ada")
    async with server.connect(token=mine["access_token"]) as socket:
        await asyncio.sleep(1)
        assert refresh(server, theirs["refresh_token"]).status == 200
        assert await close_code(socket, 8) == 3000


async def test_a_token_from_the_cookie_prolongs_the_pages_sockets(start: Start) -> None:
    """Case 39."""
    server = start(f"[credentials]\naccess_token_seconds = 2\n{LIMITS}")
    cookie = server.cookie()
    token = server.http("POST", "/auth/refresh", {}, page(server, cookie)).json["access_token"]
    async with server.connect(token=token) as socket:
        assert server.http("POST", "/auth/refresh", {}, page(server, cookie)).status == 200
        await asyncio.sleep(4)
        await (await socket.ping())


WHO = """
from sockade import Connection, Sockade

app = Sockade()


@app.endpoint("/")
class Who:
    async def on_message(self, connection: Connection, message: str) -> None:
        connection.send(f"{connection.identity.role} {' '.join(sorted(connection.identity.scopes))}")
"""


async def test_a_lower_role_applies_at_once(start: Start, tmp_path: Any) -> None:
    """Case 40."""
    (tmp_path / "who.py").write_text(WHO)
    server = start(LIMITS, "who:app", module_path=str(tmp_path))
    server.add_user("ada", role="admin")
    async with server.connect(token=server.token("ada")) as socket:
        await socket.send("?")
        assert await socket.recv() == "admin "
        words = ("user", "role", "ada", "user", "--data-dir", str(server.data_dir))
        assert server.command(*words).returncode == 0
        assert await close_code(socket, TWO) == 3000
    async with server.connect(token=server.token("ada")) as socket:
        await socket.send("?")
        assert await socket.recv() == "user "


async def test_the_idle_limit_closes_and_pings_do_not_count(start: Start) -> None:
    """Case 41."""
    server = start(f"[sessions]\nidle_seconds = 3\n{LIMITS}ping_seconds = 0.5\n")
    async with server.connect(headers={"Cookie": server.cookie()}, origin=server.origin, ping_interval=0.5) as socket:
        begun = time.monotonic()
        assert await close_code(socket, 10) == 3008
        assert 2 < time.monotonic() - begun < 6


async def test_the_absolute_limit_closes_whatever_is_said(start: Start) -> None:
    """Case 41."""
    server = start(f"[sessions]\nabsolute_seconds = 4\n{LIMITS}")
    cookie = server.cookie()
    async with server.connect(headers={"Cookie": cookie}, origin=server.origin) as socket:

        async def talk() -> None:
            while True:
                await socket.send("x")
                await asyncio.sleep(0.2)

        talking = asyncio.create_task(talk())
        assert await close_code(socket, 10) == 3000
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
    assert server.http("GET", "/auth/sessions", headers={"Cookie": cookie}).status == 401


@pytest.mark.parametrize("how", ["logout", "list", "disable", "password", "role", "revoke", "all"])
async def test_every_connection_of_a_session_that_ends_closes_within_two_seconds(
    roomy: RunningServer, how: str
) -> None:
    """Case 42."""
    cookie = roomy.cookie("ada")
    session = roomy.http("GET", "/auth/sessions", headers={"Cookie": cookie}).json["sessions"][0]["id"]
    token = roomy.http("POST", "/auth/refresh", {}, page(roomy, cookie)).json["access_token"]
    bystander = roomy.token("bob")
    data = ("--data-dir", str(roomy.data_dir))
    async with (
        roomy.connect(headers={"Cookie": cookie}, origin=roomy.origin) as first,
        roomy.connect(token=token) as second,
        roomy.connect(token=bystander) as other,
    ):
        match how:
            case "logout":
                assert roomy.http("POST", "/auth/logout", {}, page(roomy, cookie)).status == 204
            case "list":
                assert roomy.http("DELETE", f"/auth/sessions/{session}", headers=page(roomy, cookie)).status == 204
            case "disable":
                assert roomy.command("user", "disable", "ada", *data).returncode == 0
            case "password":
                words = ("user", "password", "ada", "--password-stdin", *data)
                assert roomy.command(*words, stdin=PASSWORD).returncode == 0
            case "role":
                assert roomy.command("user", "role", "ada", "other", *data).returncode == 0
            case "revoke":
                assert roomy.command("token", "revoke", "--user", "ada", *data).returncode == 0
            case "all":
                assert roomy.command("token", "revoke", "--all", *data).returncode == 0
        done = time.monotonic()
        assert await close_code(first, TWO) == 3000
        assert await close_code(second, TWO) == 3000
        assert time.monotonic() - done < TWO
        if how == "all":
            assert await close_code(other, TWO) == 3000
        else:
            await (await other.ping())
    assert (await roomy.refused(token=token)).json["code"] == "revoked"
    refused = await roomy.refused(headers={"Cookie": cookie}, origin=roomy.origin)
    assert refused.json["code"] == "session_invalid"


async def test_a_cookie_known_from_memory_is_refused_two_seconds_after_it_ended_elsewhere(roomy: RunningServer) -> None:
    """Case 42."""
    cookie = roomy.cookie("ada")
    for _ in range(3):
        assert roomy.http("GET", "/auth/sessions", headers={"Cookie": cookie}).status == 200
    assert roomy.command("user", "disable", "ada", "--data-dir", str(roomy.data_dir)).returncode == 0
    deadline = time.monotonic() + TWO
    while roomy.http("GET", "/auth/sessions", headers={"Cookie": cookie}).status == 200:
        assert time.monotonic() < deadline


async def test_what_ends_during_handshakes_leaves_no_connection(roomy: RunningServer) -> None:
    """Case 43."""
    cookie = roomy.cookie("ada")
    opened = []

    async def attempt() -> None:
        try:
            opened.append(await roomy.connect(headers={"Cookie": cookie}, origin=roomy.origin, open_timeout=30))
        except (InvalidStatus, ConnectionClosed):
            return

    attempts = [asyncio.create_task(attempt()) for _ in range(60)]
    await asyncio.sleep(0.05)
    loop = asyncio.get_running_loop()
    logout = loop.run_in_executor(None, roomy.http, "POST", "/auth/logout", {}, page(roomy, cookie))
    await asyncio.gather(*attempts)
    assert (await logout).status == 204
    codes = [await close_code(socket, TWO) for socket in opened]
    assert set(codes) <= {3000}
    print(f"{len(opened)} of 60 opened before the logout, all closed by it")


async def test_a_replayed_refresh_token_revokes_the_family(start: Start) -> None:
    """Case 44."""
    server = start(f"[sessions]\nrefresh_grace_seconds = 0\n{LIMITS}")
    first = server.tokens("ada")
    second = refresh(server, first["refresh_token"]).json
    async with server.connect(token=second["access_token"]) as socket:
        replay = refresh(server, first["refresh_token"])
        assert (replay.status, replay.json["code"]) == (401, "revoked")
        assert await close_code(socket, TWO) == 3000
    assert refresh(server, second["refresh_token"]).status == 401
    assert (await server.refused(token=second["access_token"])).json["code"] == "revoked"
    assert server.says("authn_token_reuse")


def test_two_tabs_within_the_grace_get_the_same_token(roomy: RunningServer) -> None:
    """Case 44."""
    first = roomy.tokens("ada")["refresh_token"]
    answers = [refresh(roomy, first) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json["refresh_token"] == answers[1].json["refresh_token"]


async def test_a_restart_forgets_neither_sessions_nor_revocations(roomy: RunningServer) -> None:
    """Case 45."""
    kept, ended = roomy.cookie("ada"), roomy.cookie("bob")
    tokens, single = roomy.tokens("ada"), roomy.token("ada")
    family = roomy.tokens("bob")
    assert roomy.http("POST", "/auth/logout", {}, page(roomy, ended)).status == 204
    data = ("--data-dir", str(roomy.data_dir))
    jti = claims_of(single)["jti"]
    assert roomy.command("token", "revoke", "--jti", jti, *data).returncode == 0
    assert roomy.command("token", "revoke", "--user", "bob", *data).returncode == 0
    roomy.stop()
    roomy.start()
    assert roomy.http("GET", "/auth/sessions", headers={"Cookie": kept}).status == 200
    assert roomy.http("GET", "/auth/sessions", headers={"Cookie": ended}).status == 401
    async with roomy.connect(token=tokens["access_token"]):
        pass
    assert (await roomy.refused(token=single)).json["code"] == "revoked"
    assert (await roomy.refused(token=family["access_token"])).json["code"] == "revoked"
    assert refresh(roomy, tokens["refresh_token"]).status == 200
    assert refresh(roomy, family["refresh_token"]).status == 401


def claims_of(token: str) -> dict[str, Any]:
    from base64 import urlsafe_b64decode

    body = token.split(".")[1]
    return dict(json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4))))
