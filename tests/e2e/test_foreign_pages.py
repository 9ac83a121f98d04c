"""What a browser keeps from pages that are not the server's, and how fast the end of a session reaches another tab.

The pages are the test's own: whatever the built-in page looks like, the server has to hold this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.running import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from tests.e2e.server import PageServer
    from tests.security.report import Observe

FOREIGN = "https://evil.example/"
TRY = """async (server) => {
    const got = {};
    const text = (options, path) => fetch(server + path, options).then((a) => a.text()).catch(() => "refused");
    got.fetched = await text({credentials: "include"}, "/auth/sessions");
    got.opaque = await text({credentials: "include", mode: "no-cors"}, "/auth/sessions");
    got.posted = await text({credentials: "include", mode: "no-cors", method: "POST", body: "{}"}, "/auth/ticket");
    got.socket = await new Promise((resolve) => {
        const seen = [];
        const socket = new WebSocket(server.replace("https", "wss") + "/");
        socket.onopen = () => seen.push("opened");
        socket.onmessage = (event) => seen.push(event.data);
        socket.onclose = () => resolve(seen);
        setTimeout(() => socket.close(), 1000);
    });
    await new Promise((resolve) => {
        const frame = document.createElement("iframe");
        frame.onload = resolve;
        frame.src = server + "/";
        document.body.append(frame);
    });
    got.script = await new Promise((resolve) => {
        const script = document.createElement("script");
        script.onload = () => resolve("ran");
        script.onerror = () => resolve("refused");
        script.src = server + "/assets/app.js";
        document.body.append(script);
    });
    return got;
}"""
LISTEN = """(url) => new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve(true);
    socket.onclose = (event) => { window.ended = {at: Date.now(), code: event.code}; };
})"""
LOG_OUT = "async () => { window.began = Date.now(); return (await fetch('/auth/logout', {method: 'POST'})).status; }"


@pytest.fixture
def signed_in(browser: Browser, server: PageServer) -> Iterator[BrowserContext]:
    """A browser that has ada's session cookie."""
    context = browser.new_context(ignore_https_errors=True)
    answer = context.request.post(
        f"{server.url}/auth/login", data={"username": "ada", "password": PASSWORD}, headers={"Origin": server.url}
    )
    assert answer.status == 200, answer.text()
    yield context
    context.close()


def page_at(context: BrowserContext, url: str) -> Page:
    """Open a page of our own at an address, without any policy of the server's."""
    page = context.new_page()
    page.route(url, lambda route: route.fulfill(body="<!doctype html><title>x</title>", content_type="text/html"))
    page.goto(url)
    return page


def test_a_foreign_page_gets_nothing(signed_in: BrowserContext, server: PageServer, observe: Observe) -> None:
    """Case 20."""
    page = page_at(signed_in, FOREIGN)
    found: dict[str, Any] = page.evaluate(TRY, server.url)
    # Chromium puts a page of its own in the place of one that may not be framed.
    found["framed"] = "refused" if page.frames[1].url.startswith("chrome-error:") else page.frames[1].url
    observe("nothing", f"{sum(got in ('refused', [], '') for got in found.values())} of {len(found)} ways lead nowhere")
    assert found.pop("socket") == []
    assert found.pop("opaque") in ("", "refused")
    assert found.pop("posted") in ("", "refused")
    assert found == {"fetched": "refused", "framed": "refused", "script": "refused"}
    # The server's own page gets an answer with the same cookie: it is the origin that decides.
    own = page_at(signed_in, f"{server.url}/own")
    assert "ada" in own.evaluate(
        "(server) => fetch(server + '/auth/sessions').then((answer) => answer.text())", server.url
    )


def test_logging_out_in_one_tab_closes_the_socket_of_the_other_within_two_seconds(
    signed_in: BrowserContext, server: PageServer, observe: Observe
) -> None:
    """Case 42."""
    one, other = page_at(signed_in, f"{server.url}/one"), page_at(signed_in, f"{server.url}/other")
    other.evaluate("window.ended = null")
    assert other.evaluate(LISTEN, f"wss://localhost:{server.port}/")
    assert one.evaluate(LOG_OUT) == 204
    other.wait_for_function("window.ended !== null", timeout=10_000)
    ended = other.evaluate("window.ended")
    seconds = (ended["at"] - one.evaluate("window.began")) / 1_000
    observe("within 2 s", f"closed with {ended['code']} after {seconds:.2f} s")
    assert ended["code"] == 3000
    assert seconds < 2
