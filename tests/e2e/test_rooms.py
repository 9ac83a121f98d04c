"""Rooms in the page: making them, being in several, who is here, and what was said before."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e.fake import Relay, play_server
from tests.e2e.server import PageServer
from tests.e2e.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, WebSocket, WebSocketRoute

    Arrive = Callable[..., Visitor]


def push(socket: WebSocketRoute, kind: str, channel: str = "room:lobby", **content: object) -> None:
    """Have the page told something in a room."""
    socket.send(json.dumps({"push": {"channel": channel, kind: content}}))


def said(text: str, offset: int, user: str = "bob") -> dict[str, object]:
    """Return a publication."""
    return {"data": {"text": text}, "info": {"user": user, "client": "c2"}, "offset": offset}


def test_everyone_is_in_the_lobby_and_hears_other_rooms_only_by_joining_them(visitor: Arrive) -> None:
    ada, bob = visitor().sign_in("ada"), visitor().sign_in("bob")
    ada.sees_room("lobby")
    ada.say("in the lobby")
    bob.sees_lines("in the lobby")
    ada.enter("apart").say("in the other room")
    ada.sees_marks("Delivered")
    ada.sees_lines("in the other room")
    ada.turn_to("lobby").say("and the lobby again")
    bob.sees_lines("in the lobby", "and the lobby again")
    bob.enter("apart").sees_lines("in the other room")


def test_what_is_said_in_a_room_that_is_not_open_is_counted_and_there_when_it_is(visitor: Arrive) -> None:
    ada, bob = visitor().sign_in("ada", "first"), visitor().sign_in("bob", "first")
    ada.enter("second")
    bob.say("one")
    bob.say("two")
    first = ada.page.locator('[data-room="first"]')
    expect(first.locator(".unread")).to_have_text("2 new")
    ada.sees_lines()
    ada.turn_to("first").sees_lines("one", "two")
    expect(first.locator(".unread")).to_be_hidden()


def test_what_is_typed_stays_with_its_room(visitor: Arrive) -> None:
    ada = visitor().sign_in("ada", "draft")
    ada.page.locator("#message").fill("for the draft room")
    ada.enter("another")
    expect(ada.page.locator("#message")).to_have_value("")
    ada.turn_to("draft")
    expect(ada.page.locator("#message")).to_have_value("for the draft room")


def test_rooms_and_what_was_said_in_them_are_there_after_a_reload(visitor: Arrive) -> None:
    ada, bob = visitor().sign_in("ada", "kept"), visitor().sign_in("bob", "kept")
    bob.say("yesterday")
    ada.sees_lines("yesterday")
    ada.say("today")
    ada.sees_marks("Delivered")
    ada.page.reload()
    ada.sees_connection("Connected")
    ada.sees_room("kept")
    ada.sees_lines("yesterday", "today")
    ada.sees_marks("Delivered")
    expect(ada.shown.locator(".turn:not(.own) .speaker")).to_have_text(["bob"])
    times = ada.shown.locator("time").evaluate_all("all => all.map(time => Date.parse(time.dateTime))")
    assert times == sorted(times)
    assert ada.page.evaluate("Date.now()") - times[0] < 60_000


def test_a_message_bears_the_time_at_which_it_was_said(visitor: Arrive) -> None:
    """Not the one at which it was read: the SDK does not hand that on, so the page takes it from what arrives."""
    ada = visitor().sign_in("ada", "times")
    ada.say("now")
    ada.sees_marks("Delivered")
    late = visitor(beside=ada)
    late.page.clock.install(time="2040-01-01T00:00:00Z")
    late.open().enter("times").sees_lines("now")
    said = late.shown.locator("time").evaluate("time => Date.parse(time.dateTime)")
    assert abs(time.time() - said / 1000) < 60


def test_who_is_here_is_told_by_person_and_room(visitor: Arrive) -> None:
    ada = visitor().sign_in("ada", "presence")
    ada.sees_here("ada")
    bob = visitor().sign_in("bob", "presence")
    ada.sees_here("ada", "bob")
    ada.sees_notice("bob joined")
    second = visitor(beside=bob).open().enter("presence")
    second.sees_here("bob", "ada")
    bob.page.close()
    # As long as one of a person's tabs is here, the person is.
    ada.page.wait_for_timeout(1_500)
    ada.sees_here("ada", "bob")
    assert ada.shown.locator(".notice").all_text_contents() == ["bob joined"]
    second.page.close()
    ada.sees_here("ada")
    ada.enter("presence-elsewhere").sees_here("ada")


def test_a_room_that_is_left_is_silent_and_forgotten_and_the_lobby_cannot_be_left(visitor: Arrive) -> None:
    ada, bob = visitor().sign_in("ada", "leaving"), visitor().sign_in("bob", "leaving")
    bob.sees_here("bob", "ada")
    ada.page.get_by_role("button", name="Leave leaving").click()
    ada.sees_room("lobby")
    bob.sees_here("bob")
    bob.say("anybody?")
    bob.sees_marks("Delivered")
    expect(ada.page.locator("[data-room]")).to_have_count(1)
    expect(ada.page.get_by_role("button", name="Leave lobby")).to_have_count(0)
    ada.page.reload()
    ada.sees_connection("Connected")
    expect(ada.page.locator("[data-room]")).to_have_count(1)
    ada.enter("leaving").sees_lines("anybody?")


def test_the_name_of_a_room_is_what_somebody_means_and_else_is_explained(visitor: Arrive) -> None:
    ada = visitor().sign_in("ada")
    for typed, room in (("# Design Team", "design-team"), ("LOBBY", "lobby"), ("x_1", "x_1")):
        ada.page.get_by_label("Join or make a room").fill(typed)
        ada.page.get_by_role("button", name="Join", exact=True).click()
        ada.sees_room(room)
    expect(ada.page.locator("[data-room]")).to_have_count(3)
    for typed in ("über", "<b>", "a" * 33, "-", "a:b"):
        ada.page.get_by_label("Join or make a room").fill(typed)
        ada.page.get_by_role("button", name="Join", exact=True).click()
        expect(ada.page.locator("#join-error")).to_contain_text("letters from a to z")
    expect(ada.page.locator("[data-room]")).to_have_count(3)


def test_a_room_that_the_server_refuses_is_not_kept(visitor: Arrive) -> None:
    ada = visitor()

    def refuse(socket: object) -> None:
        server_side = socket.connect_to_server()  # type: ignore[attr-defined]
        # The page's own check is no guard: here it lets through a name that the server does not take.
        socket.on_message(lambda text: server_side.send(text.replace("room:refused", "room:Refused!")))  # type: ignore[attr-defined]
        server_side.on_message(lambda text: socket.send(text.replace("room:Refused!", "room:refused")))  # type: ignore[attr-defined]

    ada.page.route_web_socket("**/connection/websocket", refuse)
    ada.sign_in("ada")
    ada.page.get_by_label("Join or make a room").fill("refused")
    ada.page.get_by_role("button", name="Join", exact=True).click()
    expect(ada.page.locator("#join-error")).to_have_text("You are not allowed in this room.")
    ada.sees_room("lobby")
    expect(ada.page.locator("[data-room]")).to_have_count(1)


def test_a_message_elsewhere_takes_neither_a_click_under_way_nor_the_focus(visitor: Arrive) -> None:
    ada = visitor()
    dials = play_server(ada.page)
    ada.sign_in("ada", "second")
    ada.page.locator('[data-room="lobby"] .room').hover()
    ada.page.mouse.down()
    push(dials[-1], "pub", **said("one", 1))
    expect(ada.page.locator('[data-room="lobby"] .unread')).to_have_text("1 new")
    ada.page.mouse.up()
    ada.sees_room("lobby")
    leave = ada.page.get_by_role("button", name="Leave second")
    leave.focus()
    push(dials[-1], "pub", "room:second", **said("two", 1))
    expect(ada.page.locator('[data-room="second"] .unread')).to_have_text("1 new")
    expect(leave).to_be_focused()


def test_who_comes_and_goes_for_ever_fills_no_page(visitor: Arrive) -> None:
    ada = visitor()
    dials = play_server(ada.page)
    ada.sign_in("ada")
    push(dials[-1], "pub", **said("before all that", 1))
    for number in range(150):
        for kind, user in (("join", "bob"), ("join", "carl"), ("leave", "bob"), ("leave", "carl")):
            push(dials[-1], kind, info={"user": user, "client": f"{user}{number}"})
    push(dials[-1], "pub", **said("after all that", 2))
    ada.sees_lines("before all that", "after all that")
    expect(ada.shown.locator(".notice")).to_have_count(100)
    expect(ada.shown.locator(".notice").last).to_have_text("carl left")


def test_a_thousand_messages_do_not_have_the_style_of_all_lines_computed_for_each(visitor: Arrive) -> None:
    """By selectors of siblings they had: the page stood still for 12 s. It is compared with what layout takes."""
    ada = visitor()
    dials = play_server(ada.page)
    ada.sign_in("ada")
    session = ada.context.new_cdp_session(ada.page)
    session.send("Performance.enable")

    def spent() -> list[float]:
        found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        return [found[kind] for kind in ("RecalcStyleDuration", "LayoutDuration")]

    before = spent()
    for number in range(1, 1_001):
        push(dials[-1], "pub", **said(f"message {number}", number))
    expect(ada.lines.last).to_have_text("message 1000", timeout=30_000)
    style, layout = (now - then for now, then in zip(spent(), before, strict=True))
    assert style < layout


def test_what_is_said_in_another_room_while_its_history_is_read_is_counted(visitor: Arrive) -> None:
    ada, bob = visitor(), visitor().sign_in("bob", "reading")
    relay = Relay(ada.page)
    ada.sign_in("ada").sees_room("lobby")
    bob.say("before")
    bob.sees_marks("Delivered")
    relay.downward = lambda message: '"history"' not in message
    ada.page.get_by_label("Join or make a room").fill("reading")
    ada.page.get_by_role("button", name="Join", exact=True).click()
    while not relay.held:
        ada.page.wait_for_timeout(20)
    ada.turn_to("lobby")
    bob.say("meanwhile")
    bob.sees_marks("Delivered", "Delivered")
    ada.page.wait_for_timeout(300)
    relay.release()
    expect(ada.page.locator('[data-room="reading"] .unread')).to_have_text("1 new")
    ada.turn_to("reading").sees_lines("before", "meanwhile")


def test_a_lobby_that_the_server_takes_away_stays_to_be_seen(visitor: Arrive) -> None:
    ada = visitor()
    dials = play_server(ada.page)
    ada.sign_in("ada")
    push(dials[-1], "pub", **said("while I could", 1))
    ada.sees_lines("while I could")
    push(dials[-1], "unsubscribe", code=2000, reason="unsubscribed")
    ada.sees_notice("You are not allowed in this room.")
    ada.sees_lines("while I could")
    ada.page.locator("#message").fill("and now?")
    expect(ada.page.locator("#send")).to_be_disabled()
    ada.enter("elsewhere").page.locator("#message").fill("here")
    expect(ada.page.locator("#send")).to_be_enabled()


def test_what_a_tab_stored_is_not_trusted(visitor: Arrive) -> None:
    ada = visitor().sign_in("ada")
    stores = ("{", "null", "1", '{"names":1}', '{"names":["<b>","../x",{}],"open":{}}', '{"names":[null,"fine"]}')
    for stored in stores:
        ada.page.evaluate("stored => sessionStorage.setItem('sockade.rooms', stored)", stored)
        ada.page.reload()
        ada.sees_connection("Connected")
        ada.sees_room("lobby")
    expect(ada.page.locator("[data-room] .name")).to_have_text(["lobby", "fine"])


def test_every_room_is_a_log_that_reads_out_what_is_new_and_only_while_it_is_open(visitor: Arrive) -> None:
    ada, bob = visitor().sign_in("ada", "spoken"), visitor().sign_in("bob", "spoken")
    log = ada.page.get_by_role("log", name="Messages in spoken")
    expect(log).to_have_attribute("aria-live", "polite")
    expect(ada.page.locator('[data-room="spoken"] .room')).to_have_attribute("aria-current", "page")
    bob.say("hello")
    expect(log).to_contain_text("hello")
    ada.enter("silent")
    expect(ada.page.locator('[aria-label="Messages in spoken"]')).to_have_attribute("aria-live", "off")
    for name in ("Message", "Join or make a room"):
        expect(ada.page.get_by_label(name, exact=True)).to_be_visible()


@pytest.fixture
def strict(tmp_path: Path, browser: Browser) -> Iterator[PageServer]:
    """A server with the limits that hold without any setting."""
    running = PageServer(tmp_path, config="")
    running.add_user("ada")
    running.start()
    yield running
    running.kill()


def test_as_many_rooms_as_there_may_be_are_joined_without_being_told_to_slow_down(
    strict: PageServer, browser: Browser
) -> None:
    told: list[str] = []

    def listen(socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: told.append(str(frame)))

    ada = Visitor(browser.new_context(ignore_https_errors=True), strict.url)
    ada.page.on("websocket", listen)
    ada.sign_in("ada")
    rooms = [f"room-{number}" for number in range(1, 8)]
    for room in rooms:
        ada.enter(room)
    ada.page.get_by_label("Join or make a room").fill("one-more")
    ada.page.get_by_role("button", name="Join", exact=True).click()
    expect(ada.page.locator("#join-error")).to_contain_text("8 rooms at once")
    ada.page.reload()
    ada.sees_connection("Connected")
    assert strict.stop() == 0
    strict.start()
    ada.sees_connection("Connected")
    for room in ["lobby", *rooms]:
        ada.turn_to(room).say(f"here in {room}")
        ada.sees_marks("Delivered")
    errors = [line for text in told for line in text.split("\n") if "error" in json.loads(line)]
    assert errors == []
    assert ada.faults == []
    ada.context.close()
