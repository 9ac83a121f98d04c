"""The page's files, as they are shipped: there is no build step, so this is what `make web` checks."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

WEB = Path(__file__).parent.parent / "src" / "sockade" / "web"
SCRIPTS = sorted(WEB.glob("*.js"))
# What turns text into markup or code (the sinks of Trusted Types and `eval`'s relatives).
SINKS = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc")


class Page(HTMLParser):
    """Notes what a page loads, and what a strict Content-Security-Policy would block."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.loaded += [value for name in ("src", "href") if (value := found.get(name))]
        self.inline += [name for name in found if name.startswith("on") or name == "style"]
        if (tag == "script" and "src" not in found) or tag == "style":
            self.inline.append(tag)


@pytest.fixture
def page() -> Page:
    page = Page()
    page.feed((WEB / "index.html").read_text())
    return page


def test_everything_the_page_loads_is_its_own_and_there(page: Page) -> None:
    own = [reference for reference in page.loaded if not reference.startswith("#")]
    assert own
    for reference in own:
        assert reference.startswith("/assets/"), reference
        assert (WEB / reference.removeprefix("/assets/")).is_file(), reference


def test_the_page_has_no_inline_script_or_style(page: Page) -> None:
    assert page.inline == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_turn_no_text_into_markup_and_import_only_their_own(script: Path) -> None:
    source = script.read_text()
    assert SINKS.search(source) is None
    for module in re.findall(r'from "([^"]+)"', source):
        assert (WEB / module).is_file(), module


def test_nothing_of_a_third_party_is_named() -> None:
    for file in (*SCRIPTS, WEB / "index.html", WEB / "app.css"):
        named = set(re.findall(r"(?:https?|wss?)://[\w.-]+", file.read_text())) - {"http://www.w3.org"}
        assert not named, (file.name, named)
