"""The page's files, as they are shipped, and whether the built one is what its sources make: `make web`."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WEB = ROOT / "src" / "sockade" / "web"
BUILD = ROOT / "web"
SOURCES = sorted((BUILD / "src").glob("*.js"))
SCRIPT = WEB / "app.js"
RECORD = json.loads((BUILD / "build.json").read_text())
LOCK = json.loads((BUILD / "package-lock.json").read_text())
# What turns text into markup or code (the sinks of Trusted Types and `eval`'s relatives).
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\bFunction\([\"'`]|new Function"
    r"|DOMParser|srcdoc|createContextualFragment|new Worker|importScripts|setTimeout\([\"'`]"
)


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


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_everything_the_page_loads_is_its_own_and_there(page: Page) -> None:
    own = [reference for reference in page.loaded if not reference.startswith("#")]
    assert own
    for reference in own:
        assert reference.startswith("/assets/"), reference
        assert (WEB / reference.removeprefix("/assets/")).is_file(), reference


def test_the_page_has_no_inline_script_or_style(page: Page) -> None:
    assert page.inline == []


@pytest.mark.parametrize("script", [SCRIPT, *SOURCES], ids=lambda path: path.name)
def test_scripts_turn_no_text_into_markup_or_code(script: Path) -> None:
    assert SINKS.search(script.read_text()) is None


@pytest.mark.parametrize("script", SOURCES, ids=lambda path: path.name)
def test_sources_import_each_other_and_the_sdk_alone(script: Path) -> None:
    for module in re.findall(r'from "([^"]+)"', script.read_text()):
        assert module == "centrifuge" or (BUILD / "src" / module).is_file(), module


def test_nothing_is_loaded_when_the_script_runs() -> None:
    assert re.search(r"\bimport\s*[\"'({*]|\bfrom\s*[\"']", SCRIPT.read_text()) is None


def test_nothing_of_a_third_party_is_named() -> None:
    for file in (SCRIPT, *SOURCES, WEB / "index.html", WEB / "app.css"):
        named = set(re.findall(r"(?:https?|wss?)://[\w.-]+", file.read_text())) - {"http://www.w3.org"}
        assert not named, (file.name, named)


def test_the_built_script_is_what_its_sources_make() -> None:
    """By the digests that the build recorded; where the tools of `make web` are installed, by building it again."""
    sources = {f"src/{path.name}" for path in SOURCES}
    assert set(RECORD["inputs"]) == {"build.mjs", "package.json", "package-lock.json"} | sources
    for name, recorded in RECORD["inputs"].items():
        assert digest(BUILD / name) == recorded, f"{name} has changed: run make web"
    for name, recorded in RECORD["outputs"].items():
        assert digest(WEB / name) == recorded, f"{name} is not what was built: run make web"
    if (BUILD / "node_modules").is_dir():
        built = subprocess.run(["node", "build.mjs", "--check"], cwd=BUILD, capture_output=True, text=True, timeout=120)
        assert (built.returncode, built.stderr) == (0, "")


def test_the_build_takes_exact_versions_by_digest_and_from_no_named_registry() -> None:
    wanted = json.loads((BUILD / "package.json").read_text())
    for name, version in {**wanted["dependencies"], **wanted["devDependencies"]}.items():
        assert LOCK["packages"][f"node_modules/{name}"]["version"] == version
    packages = {name: package for name, package in LOCK["packages"].items() if name}
    assert packages
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def test_the_licence_of_what_is_built_in_goes_with_it() -> None:
    texts = (WEB / "licenses.txt").read_text()
    for name in ("centrifuge", "events"):
        version = LOCK["packages"][f"node_modules/{name}"]["version"]
        assert f"{name} {version}\n" in texts
    assert "Centrifugal Labs" in texts
    assert "Joyent" in texts
    assert texts.count("Permission is hereby granted") == 2
    assert "licenses.txt" in SCRIPT.read_text()[:200]
