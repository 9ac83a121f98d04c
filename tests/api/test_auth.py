import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sockade.api.auth import auth_routes
from sockade.errors import StorageError
from sockade.guard.identity import Carrier, Credential, Identity, Secret
from sockade.settings import Settings
from tests.api.asgi import Answer
from tests.api.conftest import JSON, Site
from tests.identity.world import ORIGIN, PASSWORD

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "endpoints.md"
FOREIGN = "https://evil.example"
SIGN_IN = {"username": "ana", "password": PASSWORD.reveal()}


def refused(answer: Answer, status: int, code: str, site: Site) -> None:
    """Check a refusal: its status and code, and the one line in the log that its id leads to."""
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("set-cookie") is None
    [line] = [line for line in site.trail.lines if line["connection"] == answer.json["id"]]
    assert (line["reason"], line["address"]) == (code, "192.0.2.1")


async def works(site: Site, cookie: str) -> bool:
    return (await site.call("GET", "/auth/sessions", cookie=cookie)).status == 200


# Signing in.


async def test_a_page_that_signs_in_gets_the_cookie_with_every_attribute(site: Site) -> None:
    """Case 34."""
    answer = await site.login()
    assert answer.json == {"user": "ana", "role": "user", "expires_in": 28_800}
    assert answer.header("cache-control") == "no-store"
    assert answer.header("set-cookie") == (
        f"__Host-sockade={answer.cookie}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=28800"
    )
    assert await works(site, answer.cookie)
    [line] = site.trail.lines
    assert (line["event"], line["user"], line["origin"]) == ("authn_login_success", "ana", ORIGIN)
    assert answer.cookie not in str(site.trail.lines)


async def test_a_native_client_gets_tokens_and_no_cookie(site: Site) -> None:
    answer = await site.post("/auth/login", {**SIGN_IN, "grant": "token"})
    assert set(answer.json) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("Bearer", 300)
    assert answer.header("set-cookie") is None
    listed = await site.call("GET", "/auth/sessions", bearer=answer.json["access_token"])
    assert listed.json["sessions"][0]["kind"] == "token"


@pytest.mark.parametrize("user", ["ana", "nobody", "not a name"])
async def test_a_sign_in_that_fails_says_nothing_more(site: Site, user: str) -> None:
    """Case 35."""
    answer = await site.post("/auth/login", {"username": user, "password": "wrong horse battery"}, origin=ORIGIN)
    refused(answer, 401, "sign_in_failed", site)
    assert site.trail.lines[0]["event"] == "authn_login_fail"
    assert "horse" not in str(site.trail.lines)


async def test_a_session_from_before_the_sign_in_is_dead_after_it(site: Site) -> None:
    """Case 34."""
    before = (await site.login()).cookie
    await site.world.users.add("bob", password=PASSWORD)
    after = await site.login("bob", cookie=before)
    assert not await works(site, before)
    assert await works(site, after.cookie)
    failed = await site.post("/auth/login", {**SIGN_IN, "password": "x" * 12}, origin=ORIGIN, cookie=after.cookie)
    assert failed.status == 401
    assert await works(site, after.cookie)
    assert (await site.login(cookie="0" * 43)).status == 200


async def test_a_link_signs_in_and_asks_for_a_name(site: Site) -> None:
    link, _ = await site.world.authority.create_link()
    body = {"link": link.reveal()}
    refused(await site.post("/auth/login", body, origin=ORIGIN), 400, "username_required", site)
    refused(await site.post("/auth/login", {**body, "username": "ANA"}, origin=ORIGIN), 409, "username_taken", site)
    refused(await site.post("/auth/login", {**body, "username": "<b>"}, origin=ORIGIN), 400, "username_invalid", site)
    answer = await site.post("/auth/login", {**body, "username": "bob"}, origin=ORIGIN)
    assert answer.json["user"] == "bob"
    assert await works(site, answer.cookie)
    refused(await site.post("/auth/login", {**body, "username": "eve"}, origin=ORIGIN), 401, "sign_in_failed", site)


async def test_a_link_gives_tokens_too(site: Site) -> None:
    link, _ = await site.world.authority.create_link("ana")
    answer = await site.post("/auth/login", {"link": link.reveal(), "grant": "token"})
    assert answer.json["token_type"] == "Bearer"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "ana"},
        {"password": "x" * 12},
        {**SIGN_IN, "link": "x"},
        {**SIGN_IN, "role": "admin"},
        {**SIGN_IN, "grant": "password"},
        {"username": 1, "password": "x" * 12},
        {"username": "ana", "password": 5},
        {"username": "a" * 257, "password": "x" * 12},
        [],
        "text",
    ],
)
async def test_a_body_that_is_not_a_sign_in_is_refused(site: Site, body: object) -> None:
    refused(await site.post("/auth/login", body, origin=ORIGIN), 400, "bad_request", site)


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff", b"[" * 1_900, b'{"username":"\\ud800","password":"xxxxxxxxxxxx"}',
     b'{"username":"ana","password":"correct horse battery\\udfff"}',
     b'{"username":"eve","username":"ana","password":"correct horse battery"}',
     b'{"username":"ana","password":"correct horse battery","grant":"token","gr\\u0061nt":"cookie"}'],
)  # fmt: skip
async def test_a_body_that_parsers_read_differently_or_not_at_all_is_refused(site: Site, content: bytes) -> None:
    refused(await site.client.send("POST", "/auth/login", [JSON], [content]), 400, "bad_request", site)


@pytest.mark.parametrize(
    "types",
    [[], ["text/plain"], ["application/x-www-form-urlencoded"], ["application/json", "application/json"],
     ["application/jsonp"]],
)  # fmt: skip
async def test_only_json_is_read(site: Site, types: list[str]) -> None:
    """A form of another page can send the other types without asking."""
    headers = [("content-type", type_) for type_ in types]
    content = msgspec.json.encode(SIGN_IN)
    refused(await site.client.send("POST", "/auth/login", headers, [content]), 400, "bad_request", site)
    good = [("content-type", "Application/JSON; charset=utf-8")]
    assert (await site.client.send("POST", "/auth/login", good, [content])).status == 200


@pytest.mark.parametrize("declared", [True, False])
async def test_a_large_body_is_refused_before_it_is_hashed(
    site: Site, monkeypatch: pytest.MonkeyPatch, declared: bool
) -> None:
    """Case 37."""
    monkeypatch.setattr(site.world.passwords, "verify", None)
    chunks = [b"x" * 500] * 2_000
    headers = [JSON, ("content-length", "1000000")] if declared else [JSON]
    answer = await site.client.send("POST", "/auth/login", headers, chunks)
    refused(answer, 413, "body_too_large", site)
    assert answer.header("connection") == "close"


async def test_a_content_length_that_is_no_number_is_refused(site: Site) -> None:
    for value in ("-1", "1e3", "²", "1" * 5_000):
        answer = await site.client.send("POST", "/auth/login", [JSON, ("content-length", value)])
        assert answer.status in (400, 413)


async def test_a_body_that_never_ends_is_timed_out(site: Site) -> None:
    limits = site.world.settings.limits.model_copy(update={"head_seconds": 0.01})
    object.__setattr__(site.world.settings, "limits", limits)
    answer = await site.client.send("POST", "/auth/login", [JSON], [b"{"] * 3, hang=True)
    refused(answer, 408, "head_timeout", site)


@pytest.mark.parametrize("path", ["/auth/links", "/auth/ticket", "/auth/refresh", "/auth/logout"])
async def test_who_is_signed_out_while_the_body_comes_in_does_nothing(site: Site, path: str) -> None:
    """Case 43: a body may take ten seconds, and what was true at its beginning need not be at its end."""
    await site.world.users.add("root", role="admin", password=PASSWORD)
    cookie = (await site.login("root")).cookie
    headers = [JSON, ("cookie", f"__Host-sockade={cookie}"), ("origin", ORIGIN)]
    answer = await site.client.send(
        "POST", path, headers, [b"{", b"}"], meanwhile=lambda: site.world.users.disable("root")
    )
    refused(answer, 401, "session_invalid", site)


async def test_a_client_that_leaves_in_the_middle_is_logged(site: Site) -> None:
    async def leave() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def nobody(message: object) -> None:
        """Nobody hears the answer."""

    scope = {"type": "http", "method": "POST", "path": "/auth/login", "headers": [], "query_string": b""}
    await site.client.app(scope, leave, nobody)
    assert [line["reason"] for line in site.trail.lines] == ["bad_request"]


# Which page, which method.


@pytest.mark.parametrize("origin", [FOREIGN, "null", "https://localhost", "http://localhost:8443", ORIGIN + ".evil",
                                    "https://app.example"])  # fmt: skip
async def test_another_page_may_not_sign_in_or_use_the_cookie(site: Site, origin: str) -> None:
    cookie = (await site.login()).cookie
    for path in ("/auth/login", "/auth/refresh", "/auth/ticket", "/auth/logout", "/auth/links"):
        body = SIGN_IN if path == "/auth/login" else None
        refused(await site.post(path, body, origin=origin, cookie=cookie), 403, "origin_forbidden", site)
    refused(await site.post("/auth/login", SIGN_IN, origin=origin), 403, "origin_forbidden", site)
    refused(await site.call("GET", "/auth/sessions", origin=origin, cookie=cookie), 403, "origin_forbidden", site)
    assert await works(site, cookie)


async def test_a_cookie_without_origin_changes_nothing(site: Site) -> None:
    """Case 16."""
    cookie = (await site.login()).cookie
    for path in ("/auth/login", "/auth/refresh", "/auth/ticket", "/auth/logout"):
        body = SIGN_IN if path == "/auth/login" else None
        refused(await site.post(path, body, cookie=cookie), 403, "origin_missing", site)
    assert await works(site, cookie)


async def test_two_origins_are_no_origin(site: Site) -> None:
    cookie = (await site.login()).cookie
    answer = await site.call("POST", "/auth/logout", cookie=cookie, origin=ORIGIN, more=[("origin", FOREIGN)])
    refused(answer, 403, "origin_forbidden", site)


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/auth/login", "POST"), ("/auth/refresh", "POST"), ("/auth/ticket", "POST"), ("/auth/logout", "POST"),
        ("/auth/links", "POST"), ("/auth/sessions/x", "DELETE"),
    ],
)  # fmt: skip
async def test_get_issues_and_ends_nothing(site: Site, path: str, allow: str) -> None:
    """Case 33."""
    cookie = (await site.login()).cookie
    answer = await site.call("GET", path, cookie=cookie, origin=ORIGIN)
    refused(answer, 405, "method_not_allowed", site)
    assert answer.header("allow") == allow


@pytest.mark.parametrize("path", ["/auth/ticket", "/auth/logout", "/auth/links", "/auth/refresh"])
async def test_without_a_credential_nothing_is_done(site: Site, path: str) -> None:
    refused(await site.post(path), 401, "credential_missing", site)


async def test_two_credentials_of_a_kind_are_refused(site: Site) -> None:
    cookie = (await site.login()).cookie
    more = [("cookie", f"__Host-sockade={'1' * 43}")]
    answer = await site.call("GET", "/auth/sessions", cookie=cookie, more=more)
    refused(answer, 400, "credential_ambiguous", site)


@pytest.mark.parametrize("token", ["x", "eyJ.e30.x"])
async def test_a_bad_bearer_token_does_not_fall_back_to_the_cookie(site: Site, token: str) -> None:
    cookie = (await site.login()).cookie
    answer = await site.post("/auth/ticket", origin=ORIGIN, cookie=cookie, bearer=token)
    refused(answer, 401, "token_invalid", site)
    assert answer.header("www-authenticate") == 'Bearer error="invalid_token"'


async def test_guesses_of_a_neighbour_keep_nobody_out(site: Site) -> None:
    """Case 32: everybody behind one address shares its allowance of guesses."""
    cookie, tokens = (await site.login()).cookie, await site.tokens()
    token = tokens["access_token"]
    while (await site.call("GET", "/auth/sessions", bearer="x")).status == 401:
        pass
    page: dict[str, Any] = {"origin": ORIGIN, "cookie": cookie}
    for path in ("/auth/refresh", "/auth/ticket"):
        assert (await site.post(path, **page)).status == 200, path
    assert (await site.call("GET", "/auth/sessions", cookie=cookie)).status == 200
    assert (await site.call("GET", "/auth/sessions", bearer=token)).status == 200
    newer = await site.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    assert newer.status == 200
    assert (await site.post("/auth/refresh", {"refresh_token": newer.json["refresh_token"]})).status == 200
    assert (await site.post("/auth/logout", **page)).status == 204
    # Who is wrong is told no more than before.
    refused(await site.call("GET", "/auth/sessions", cookie=cookie), 429, "rate_limited", site)
    refused(await site.call("GET", "/auth/sessions", bearer=token + "x"), 429, "rate_limited", site)


async def test_over_the_allowance_no_guess_reaches_the_store(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 32."""
    while (await site.call("GET", "/auth/sessions", cookie="0" * 43)).status == 401:
        pass
    for name in ("by_cookie", "rotate"):
        monkeypatch.setattr(site.world.database.sessions, name, None)
    for bearer, cookie in (("", "1" * 43), ("2" * 43, ""), ("eyJ.e30.x", "")):
        answer = await site.call("GET", "/auth/sessions", bearer=bearer, cookie=cookie)
        refused(answer, 429, "rate_limited", site)
    refused(await site.post("/auth/refresh", {"refresh_token": "3" * 43}), 429, "rate_limited", site)


# Tokens.


async def test_refresh_tokens_rotate_and_reuse_is_logged(site: Site) -> None:
    """Case 44."""
    first = await site.tokens()
    second = (await site.post("/auth/refresh", {"refresh_token": first["refresh_token"]})).json
    assert set(second) == {"access_token", "refresh_token", "token_type", "expires_in"}
    site.world.clock.step(11)
    answer = await site.post("/auth/refresh", {"refresh_token": first["refresh_token"]})
    refused(answer, 401, "revoked", site)
    assert site.trail.lines[-1]["event"] == "authn_token_reuse"
    answer = await site.post("/auth/refresh", {"refresh_token": second["refresh_token"]})
    refused(answer, 401, "token_invalid", site)
    answer = await site.call("GET", "/auth/sessions", bearer=second["access_token"])
    refused(answer, 401, "revoked", site)


async def test_a_page_gets_an_access_token_for_its_cookie(site: Site) -> None:
    cookie = (await site.login()).cookie
    answer = await site.post("/auth/refresh", origin=ORIGIN, cookie=cookie)
    assert set(answer.json) == {"access_token", "token_type", "expires_in"}
    assert (await site.call("GET", "/auth/sessions", bearer=answer.json["access_token"])).status == 200


async def test_a_body_that_is_not_a_refresh_is_refused(site: Site) -> None:
    refused(await site.post("/auth/refresh", {"refresh_token": 5}), 400, "bad_request", site)
    refused(await site.post("/auth/refresh", {"token": "x"}), 400, "bad_request", site)


async def test_an_access_token_does_not_buy_the_next(site: Site) -> None:
    tokens, cookie = await site.tokens(), (await site.login()).cookie
    refused(await site.post("/auth/refresh", bearer=tokens["access_token"]), 403, "forbidden", site)
    await site.post("/auth/logout", origin=ORIGIN, cookie=cookie)
    answer = await site.post("/auth/refresh", origin=ORIGIN, cookie=cookie, bearer=tokens["access_token"])
    refused(answer, 401, "session_invalid", site)


async def test_the_key_set_is_public(site: Site) -> None:
    answer = await site.call("GET", "/.well-known/jwks.json")
    assert answer.json == site.world.keys.jwks(site.world.clock.now, 330)
    assert answer.header("content-type") == "application/jwk-set+json"
    assert site.trail.lines == []


# Tickets.


async def redeemed(site: Site, answer: Answer, origin: str) -> Any:
    credential = Credential(Carrier.TICKET, Secret(answer.json["ticket"]))
    return await site.world.authority.verify(credential, origin=origin)


async def test_a_page_gets_a_ticket_for_itself(site: Site) -> None:
    cookie = (await site.login()).cookie
    answer = await site.post("/auth/ticket", origin=ORIGIN, cookie=cookie)
    assert answer.json["expires_in"] == 30
    assert isinstance(await redeemed(site, answer, ORIGIN), Identity)


async def test_a_bearer_client_names_the_page(site: Site) -> None:
    token = (await site.tokens())["access_token"]
    answer = await site.post("/auth/ticket", {"origin": "https://app.example"}, bearer=token)
    assert isinstance(await redeemed(site, answer, "https://app.example"), Identity)
    refused(await site.post("/auth/ticket", bearer=token), 400, "origin_required", site)
    refused(await site.post("/auth/ticket", {"origin": "null"}, bearer=token), 400, "bad_request", site)


async def test_a_page_cannot_get_a_ticket_for_another(site: Site) -> None:
    cookie, token = (await site.login()).cookie, (await site.tokens())["access_token"]
    body = {"origin": "https://app.example"}
    refused(await site.post("/auth/ticket", body, origin=ORIGIN, cookie=cookie), 400, "bad_request", site)
    refused(await site.post("/auth/ticket", body, origin=FOREIGN, bearer=token), 403, "origin_forbidden", site)
    assert (await site.post("/auth/ticket", body, origin="https://app.example", bearer=token)).status == 200
    assert (await site.post("/auth/ticket", {"origin": ORIGIN}, origin=ORIGIN, cookie=cookie)).status == 200
    refused(await site.post("/auth/ticket", {"for": "x"}, origin=ORIGIN, cookie=cookie), 400, "bad_request", site)


# Sessions and links.


async def test_logout_ends_the_session_and_clears_the_page(site: Site) -> None:
    """Case 85."""
    cookie = (await site.login()).cookie
    answer = await site.post("/auth/logout", origin=ORIGIN, cookie=cookie)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.header("set-cookie") == "__Host-sockade=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"
    assert answer.header("clear-site-data") == '"cookies", "storage"'
    assert answer.header("cache-control") == "no-store"
    assert site.trail.lines[-1]["event"] == "session_ended"
    assert not await works(site, cookie)
    assert len(site.world.ended) == 1


async def test_users_see_and_end_their_own_sessions(site: Site) -> None:
    await site.world.users.add("bob", password=PASSWORD)
    mine, other, theirs = (await site.login()).cookie, (await site.login()).cookie, (await site.login("bob")).cookie
    listed = (await site.call("GET", "/auth/sessions", cookie=mine)).json
    assert (listed["user"], listed["role"]) == ("ana", "user")
    assert [set(one) for one in listed["sessions"]] == [
        {"id", "current", "kind", "created_at", "last_seen_at", "address", "user_agent"}
    ] * 2
    [current] = [one for one in listed["sessions"] if one["current"]]
    [another] = [one for one in listed["sessions"] if not one["current"]]
    assert (current["address"], current["user_agent"], current["kind"]) == ("192.0.2.1", "test", "cookie")
    of_bob = (await site.call("GET", "/auth/sessions", cookie=theirs)).json["sessions"][0]["id"]
    for unknown in (of_bob, "none"):
        answer = await site.call("DELETE", f"/auth/sessions/{unknown}", cookie=mine, origin=ORIGIN)
        refused(answer, 404, "not_found", site)
    answer = await site.call("DELETE", f"/auth/sessions/{another['id']}", cookie=mine)
    refused(answer, 403, "origin_missing", site)
    answer = await site.call("DELETE", f"/auth/sessions/{another['id']}", cookie=mine, origin=ORIGIN)
    assert answer.status == 204
    assert [await works(site, cookie) for cookie in (mine, other, theirs)] == [True, False, True]


async def test_administrators_make_links_and_nobody_else(site: Site) -> None:
    await site.world.users.add("root", role="admin", password=PASSWORD)
    plain, admin = (await site.login()).cookie, (await site.login("root")).cookie
    refused(await site.post("/auth/links", origin=ORIGIN, cookie=plain), 403, "forbidden", site)
    answer = await site.post("/auth/links", {"role": "user"}, origin=ORIGIN, cookie=admin)
    start, _, secret = answer.json["link"].partition("/#link=")
    assert (start, answer.json["expires_in"]) == (ORIGIN, 3_600)
    assert secret not in str(site.trail.lines)
    signed_in = await site.post("/auth/login", {"link": secret, "username": "bob"}, origin=ORIGIN)
    assert signed_in.json["role"] == "user"
    for role in ("No Role", "user\n"):
        refused(await site.post("/auth/links", {"role": role}, origin=ORIGIN, cookie=admin), 400, "bad_request", site)
    token = (await site.tokens("root"))["access_token"]
    answer = await site.post("/auth/links", bearer=token)
    assert answer.json["link"].startswith(f"{ORIGIN}/#link=")


async def test_a_failing_store_is_busy_and_never_a_success(site: Site) -> None:
    cookie, token = (await site.login()).cookie, (await site.tokens())
    await site.world.database.close()
    site.world.clock.step(10)
    refused(await site.post("/auth/login", SIGN_IN, origin=ORIGIN), 503, "busy", site)
    refused(await site.post("/auth/refresh", {"refresh_token": token["refresh_token"]}), 503, "busy", site)
    for path in ("/auth/ticket", "/auth/logout", "/auth/refresh"):
        refused(await site.post(path, origin=ORIGIN, cookie=cookie), 503, "busy", site)
    refused(await site.post("/auth/links", bearer=token["access_token"]), 503, "busy", site)
    assert (await site.call("GET", "/auth/sessions", cookie=cookie)).header("retry-after") == "5"


async def test_who_tried_while_the_store_failed_need_not_wait(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: object, **__: object) -> None:
        raise StorageError("disk full")

    with monkeypatch.context() as full:
        full.setattr(site.world.database.sessions, "start", failing)
        for _ in range(20):
            refused(await site.post("/auth/login", SIGN_IN, origin=ORIGIN), 503, "busy", site)
        wrong = {"username": "ana", "password": "another long password"}
        for status in (*[401] * 10, 429):  # whose guesses are counted all the same
            assert (await site.post("/auth/login", wrong, origin=ORIGIN)).status == status
    site.world.clock.step(60)
    await site.login()


async def test_carriers_that_are_off_are_refused(site: Site) -> None:
    cookie, token = (await site.login()).cookie, (await site.tokens())["access_token"]
    credentials = site.world.settings.credentials
    object.__setattr__(site.world.settings, "credentials", credentials.model_copy(update={"cookie": False}))
    refused(await site.call("GET", "/auth/sessions", cookie=cookie), 401, "credential_kind_off", site)
    object.__setattr__(site.world.settings, "credentials", credentials.model_copy(update={"bearer": False}))
    refused(await site.call("GET", "/auth/sessions", bearer=token), 401, "credential_kind_off", site)


def test_the_reference_lists_every_request() -> None:
    missing: Any = None
    routes = auth_routes(missing, Settings(), missing, missing, own_origins=(), public_origin="")
    served = {f"{method} {route.path}" for route in routes for method in route.endpoint._handlers}
    table = REFERENCE.read_text().partition("## Signing in")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `((?:GET|POST|DELETE) [^`]+)` \|", table, re.MULTILINE)) == served
