"""Cases 21 to 29, from outside: what a token must be to open a connection."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any

import pytest

from tests.running import ROOMY, RunningServer, close_code
from tests.security.issuer import ISS, KeyServer, Signer, by_hmac, claims, compact, key_set

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMITS = f"[limits]\n{ROOMY}guesses_per_minute = 1000000\nsign_ins_per_minute = 1000\n"
SECRET = b"s" * 48


@dataclass
class World:
    """A server that accepts other issuers, and those."""

    server: RunningServer
    signer: Signer
    keys: KeyServer
    remote: Signer

    async def verdict(self, token: str) -> tuple[int, str]:
        answer = await self.server.refused(token=token)
        if answer.status == 401:
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        return answer.status, answer.json["code"]

    async def opens(self, token: str) -> bool:
        async with self.server.connect(token=token) as socket:
            await socket.ping()
        return True


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("issuers")
    signer, remote = Signer(), Signer("remote")
    (folder / "corp.json").write_bytes(key_set(signer))
    (folder / "secret").write_bytes(SECRET)
    (folder / "secret").chmod(0o600)
    keys = KeyServer(key_set(remote))
    config = f"""
[issuers.corp]
issuer = "{ISS}"
audience = "chat"
keys_file = "{folder / "corp.json"}"
role_claim = "role"

[issuers.remote]
issuer = "https://remote.example"
audience = "chat"
jwks_url = "{keys.url}"

[issuers.shared]
issuer = "https://shared.example"
audience = "chat"
secret_file = "{folder / "secret"}"

{LIMITS}"""
    server = RunningServer(folder / "server", config)
    server.start()
    yield World(server, signer, keys, remote)
    server.kill()
    keys.close()


async def test_a_token_of_another_issuer_opens_a_connection_under_its_name(world: World) -> None:
    """Case 27."""
    server = world.server
    answer = server.http("GET", "/auth/sessions", headers={"Authorization": f"Bearer {world.signer.token(role='ops')}"})
    assert (answer.json["user"], answer.json["role"]) == ("corp:eve", "ops")
    assert await world.opens(world.signer.token())
    hmac = compact({"alg": "HS256", "typ": "at+jwt"}, claims(iss="https://shared.example"), by_hmac(SECRET))
    assert await world.opens(hmac)
    assert await world.opens(world.remote.token(iss="https://remote.example", aud=["x", "chat"]))


async def test_a_subject_is_never_taken_for_a_user_of_ours(world: World) -> None:
    """Case 65."""
    world.server.token("ada")
    token = world.signer.token(sub="ada")
    answer = world.server.http("GET", "/auth/sessions", headers={"Authorization": f"Bearer {token}"})
    assert answer.json == {"user": "corp:ada", "role": "user", "sessions": []}


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", ""])
async def test_alg_none_is_401(world: World, alg: str) -> None:
    """Case 21."""
    for iss in (ISS, "sockade", "https://shared.example"):
        for sign in (lambda _: b"", by_hmac(b"")):
            token = compact({"alg": alg, "typ": "at+jwt", "kid": "one"}, claims(iss=iss), sign)
            assert await world.verdict(token) == (401, "token_invalid")


@pytest.mark.parametrize("form", ["pem", "der", "jwk", "jwks"])
async def test_hmac_with_a_public_key_is_401(world: World, form: str) -> None:
    """Case 21."""
    key = world.signer.key
    secret = {
        "pem": key.as_pem(private=False),
        "der": key.as_der(private=False),
        "jwk": json.dumps(world.signer.jwk).encode(),
        "jwks": key_set(world.signer),
    }[form]
    for secret_ in (secret, secret.strip()):
        token = compact({"alg": "HS256", "typ": "at+jwt", "kid": "one"}, claims(), by_hmac(secret_))
        assert await world.verdict(token) == (401, "token_invalid")


@pytest.mark.parametrize("name", ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "more"])
async def test_a_header_that_names_keys_or_extensions_is_401_and_fetches_nothing(world: World, name: str) -> None:
    """Case 22."""
    foreign = Signer()
    values: dict[str, Any] = {"crit": ["exp"], "jwk": foreign.jwk, "x5c": ["AAAA"], "b64": True}
    asked = len(world.keys.asked)
    header = {name: values.get(name, world.keys.url)}
    assert await world.verdict(world.signer.token(header)) == (401, "token_invalid")
    assert await world.verdict(foreign.token(header)) == (401, "token_invalid")
    assert len(world.keys.asked) == asked


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/dev/stdin",
        "' OR '1'='1",
        "one\x00",
        "one\r\nx: y",
        "\x1b[2J",
        "http://127.0.0.1/k",
        "",
    ],
)
async def test_kid_is_only_ever_looked_up(world: World, kid: str) -> None:
    """Case 23."""
    answer = await world.server.refused(token=world.signer.token({"kid": kid}))
    assert (answer.status, answer.json["code"]) == (401, "token_invalid")
    [line] = world.server.log_of(answer.json["id"])
    assert "\x1b" not in json.dumps(line, ensure_ascii=False)
    forged = compact({"alg": "HS256", "typ": "at+jwt", "kid": kid}, claims(), by_hmac(b""))
    assert await world.verdict(forged) == (401, "token_invalid")


async def test_kid_of_ten_kilobytes_is_refused(world: World) -> None:
    """Case 23."""
    # Its header is over the limit of a request head already; through HTTP/1.1 nothing of it is seen further in.
    assert (await world.server.refused(token=world.signer.token({"kid": "k" * 10_240}))).status == 431
    assert await world.verdict(world.signer.token({"kid": "k" * 3_000})) == (401, "token_invalid")


def test_a_thousand_random_kid_are_one_fetch(world: World) -> None:
    """Case 24."""
    begun, asked = time.monotonic(), len(world.keys.asked)
    connection = HTTPSConnection("localhost", world.server.port, context=world.server.tls, timeout=20)
    statuses = set()
    for number in range(1_000):
        token = world.remote.token({"kid": f"k{number}"}, iss="https://remote.example")
        connection.request("GET", "/auth/sessions", headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        response.read()
        statuses.add(response.status)
    connection.close()
    assert statuses == {401}
    assert len(world.keys.asked) - asked <= 1 + (time.monotonic() - begun) // 30


@pytest.mark.parametrize("mode", ["error", "huge", "redirect", "slow"])
async def test_a_key_server_that_fails_from_the_start_is_503(tmp_path: Path, mode: str) -> None:
    """Case 25."""
    signer = Signer()
    keys = KeyServer(key_set(signer))
    keys.mode = mode
    table = f'[issuers.corp]\nissuer = "{ISS}"\naudience = "chat"\njwks_url = "{keys.url}"\n{LIMITS}'
    server = RunningServer(tmp_path / "server", table)
    try:
        server.start()
        begun = time.monotonic()
        answer = await server.refused(token=signer.token())
        assert (answer.status, answer.json["code"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        assert time.monotonic() - begun < 8
        assert set(keys.asked) == {"/jwks"}
    finally:
        server.kill()
        keys.close()


async def test_cached_keys_stay_when_the_key_server_fails(world: World) -> None:
    """Case 25."""
    token = {"iss": "https://remote.example"}
    assert await world.opens(world.remote.token(**token))
    world.keys.mode = "error"
    try:
        assert await world.opens(world.remote.token(**token))
    finally:
        world.keys.mode = "good"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exp": -29}, ""),
        ({"exp": -31}, "token_expired"),
        ({"iat": 27, "exp": 100}, ""),
        ({"iat": 40, "exp": 100}, "token_invalid"),
        ({"nbf": 27}, ""),
        ({"nbf": 40}, "token_invalid"),
        ({"exp": 890}, ""),
        ({"exp": 910}, "token_invalid"),
        *(({name: None}, "token_invalid") for name in ("exp", "iss", "aud", "sub", "iat")),
        ({"exp": "soon"}, "token_invalid"),
        ({"exp": True}, "token_invalid"),
    ],
)
async def test_times_and_claims_of_a_token(world: World, changes: dict[str, Any], code: str) -> None:
    """Case 26."""
    now = time.time()
    times = {k: now + v if type(v) is int else v for k, v in changes.items()}
    if times.get("exp", now) is not None and "exp" in times and isinstance(times["exp"], float) and times["exp"] < now:
        times["iat"] = now - 100
    token = world.signer.token(**times)
    if code:
        assert await world.verdict(token) == (401, code)
    else:
        assert await world.opens(token)


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ({}, {"aud": "other"}),
        ({}, {"aud": ["other", "chatter"]}),
        ({}, {"aud": []}),
        ({}, {"iss": "https://remote.example"}),
        ({}, {"iss": "https://corp.example/"}),
        ({}, {"iss": "sockade", "aud": "sockade"}),
        ({"typ": "JWT"}, {}),
        ({"typ": None}, {}),
        ({"typ": "rt+jwt"}, {}),
        ({}, {"nonce": "n"}),
        ({}, {"at_hash": "n"}),
        ({}, {"sub": "a b"}),
        ({}, {"sub": ""}),
        ({}, {"sub": "\u202eeve"}),
        ({"alg": "ES256"}, {}),
        ({"kid": "other0"}, {}),
        ({"kid": None}, {}),
    ],
)
async def test_a_token_for_somebody_or_something_else_is_401(
    world: World, header: dict[str, Any], changes: dict[str, Any]
) -> None:
    """Case 27."""
    assert await world.verdict(world.signer.token(header, **changes)) == (401, "token_invalid")


async def test_a_refresh_token_or_ticket_is_no_access_token(world: World) -> None:
    """Case 27."""
    tokens = world.server.tokens("ada")
    assert await world.verdict(tokens["refresh_token"]) == (401, "token_invalid")
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    ticket = world.server.http("POST", "/auth/ticket", {"origin": world.server.origin}, headers).json["ticket"]
    assert await world.verdict(ticket) == (401, "token_invalid")


@pytest.mark.parametrize("text", ["x", "true", "null", "a.b.c", "..", "eyJ.eyJ.x", "0" * 43, "{}", "Bearer"])
async def test_any_other_string_is_401(world: World, text: str) -> None:
    """Case 29."""
    assert await world.verdict(text) == (401, "token_invalid")


async def test_a_token_of_a_foreign_key_under_a_known_id_is_401(world: World) -> None:
    """Case 29."""
    assert await world.verdict(Signer().token()) == (401, "token_invalid")
    good = world.signer.token()
    assert await world.verdict(good[:-8] + "AAAAAAAA") == (401, "token_invalid")


async def test_our_own_key_rotates_while_the_server_runs(world: World) -> None:
    """Case 28."""
    server = world.server
    old = server.token("ada")
    done = server.command("token", "rotate", "--data-dir", str(server.data_dir))
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 5
    while len(server.http("GET", "/.well-known/jwks.json").json["keys"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert await world.opens(old)
    new = server.token("ada")
    assert new.partition(".")[0] != old.partition(".")[0]
    assert await world.opens(new)
    [path] = sorted(server.data_dir.glob("keys/signing.*"))[:1]
    path.unlink()
    while len(server.http("GET", "/.well-known/jwks.json").json["keys"]) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert await world.verdict(old) == (401, "token_invalid")
    assert await world.opens(new)


async def test_a_revoked_token_closes_what_it_opened_and_opens_nothing_more(world: World) -> None:
    """Case 42."""
    server = world.server
    token, other = world.signer.token(sub="mallory", jti="bad-one"), world.signer.token(sub="mallory", jti="good-one")
    async with server.connect(token=token) as first, server.connect(token=other) as second:
        done = server.command("token", "revoke", "--jti", "bad-one", "--data-dir", str(server.data_dir))
        assert done.returncode == 0, done.stderr
        assert await close_code(first, 3) == 3000
        await (await second.ping())
    assert await world.verdict(token) == (401, "revoked")
    assert await world.opens(other)


async def test_what_was_issued_to_a_user_before_is_revoked(world: World) -> None:
    """Case 42."""
    server = world.server
    token = world.signer.token(sub="trent")
    tokens = server.tokens("bob")
    async with server.connect(token=token) as first, server.connect(token=tokens["access_token"]) as second:
        for user in ("corp:trent", "bob"):
            words = ("token", "revoke", "--user", user, "--data-dir", str(server.data_dir))
            assert server.command(*words).returncode == 0
        assert await close_code(first, 3) == 3000
        assert await close_code(second, 3) == 3000
    assert await world.verdict(token) == (401, "revoked")
    assert server.http("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]}).status == 401
    assert await world.opens(world.signer.token(sub="trent", iat=time.time() + 1))
    assert await world.opens(server.token("bob"))


async def test_a_renewed_token_of_another_issuer_prolongs_its_connections(world: World) -> None:
    """Cases 39, 40."""
    server, soon = world.server, int(time.time()) + 3
    token = world.signer.token(sub="victor", sid="s1", exp=soon, scope="a b")
    async with server.connect(token=token, subprotocols=["sockade"]) as socket:
        newer = world.signer.token(sub="victor", sid="s1", scope="a")
        answer = server.http("POST", "/auth/refresh", headers={"Authorization": f"Bearer {newer}"})
        assert answer.status == 200, answer
        assert answer.json["expires_in"] > 290
        while time.time() < soon + 2:
            await (await socket.ping())
            time.sleep(0.2)
        await (await socket.ping())
    theirs = world.signer.token(sub="walter", sid="s1", exp=int(time.time()) + 2)
    async with server.connect(token=theirs) as socket:
        newer = world.signer.token(sub="victor", sid="s1")
        assert server.http("POST", "/auth/refresh", headers={"Authorization": f"Bearer {newer}"}).status == 200
        assert await close_code(socket, 8) == 3000
