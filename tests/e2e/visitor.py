"""Somebody in front of the page: what they do and what they see, in the words of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect

from tests.running import PASSWORD

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Locator


class Visitor:
    """One tab. `faults` holds what a page that is in order never has: script errors and breaches of its policy."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.page: Page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("console", self._console)

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(dialog.message)
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        if any(word in message.text for word in ("Content Security Policy", "Trusted", "Uncaught")):
            self.faults.append(message.text)

    def open(self, link: str | None = None) -> Visitor:
        self.page.goto(link or self.url)
        return self

    def sign_in(self, name: str, room: str = "") -> Visitor:
        """Sign in, and go into a room of one's own choice, which unlike the lobby remembers no other test."""
        self.open()
        self.page.get_by_role("textbox", name="Name", exact=True).fill(name)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.sees_connection("Connected")
        return self.enter(room) if room else self

    def enter(self, room: str) -> Visitor:
        """Join a room, and wait until it is read."""
        rooms = self.page.locator("#rooms-button")
        if rooms.is_visible():
            rooms.click()
        self.page.get_by_label("Join or make a room").fill(room)
        self.page.get_by_role("button", name="Join", exact=True).click()
        self.sees_room(room)
        return self

    def turn_to(self, room: str) -> Visitor:
        """Open a room that one is in already."""
        self.page.locator(f'[data-room="{room}"] .room').click()
        self.sees_room(room)
        return self

    def say(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.get_by_label("Message", exact=True).press("Enter")

    def sees_connection(self, state: str) -> None:
        expect(self.page.locator("#connection-text")).to_have_text(state, timeout=45_000)

    def sees_room(self, name: str) -> None:
        expect(self.page.locator("#room-title")).to_have_text(name)
        expect(self.shown.locator(".log")).not_to_have_attribute("aria-busy", "true")
        expect(self.shown.locator(".log")).to_have_attribute("aria-label", f"Messages in {name}")

    def sees_sign_in(self, note: str) -> None:
        expect(self.page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=45_000)
        expect(self.page.locator("#sign-in-note")).to_contain_text(note)

    def sees_lines(self, *texts: str) -> None:
        expect(self.lines).to_have_text(list(texts))

    def sees_marks(self, *states: str) -> None:
        """What became of each own message, in the words a screen reader reads."""
        expect(self.shown.locator(".mark")).to_have_count(len(states))
        for mark, state in zip(self.shown.locator(".mark").all(), states, strict=True):
            expect(mark).to_have_attribute("aria-label", state)

    def sees_notice(self, text: str) -> None:
        expect(self.shown.locator(".notice").filter(has_text=text)).to_be_visible()

    def sees_here(self, *names: str) -> None:
        expect(self.page.locator("#people-list .speaker")).to_have_text(list(names))

    @property
    def shown(self) -> Locator:
        """The conversation of the room that is open."""
        return self.page.locator(".scroll:not([hidden])")

    @property
    def lines(self) -> Locator:
        return self.shown.locator(".line")
