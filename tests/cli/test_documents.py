"""What the documents say of the commands, the dependencies and the lock is compared with the project."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> list[str]:
    return [re.split(r"[\[<>=; ]", requirement)[0] for requirement in requirements]


def test_every_dependency_has_its_reason() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    told = re.findall(r"^\| `([a-z0-9-]+)` \| (?:`([a-z]+)` \| )?\w", page, re.MULTILINE)
    asked = [(name, "") for name in names(PROJECT["dependencies"])]
    asked += [(name, extra) for extra, more in PROJECT["optional-dependencies"].items() for name in names(more)]
    assert told == asked


def test_the_lock_holds_every_dependency_and_the_build_backend() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    asked = names(PROJECT["dependencies"]) + [
        name for more in PROJECT["optional-dependencies"].values() for name in names(more)
    ]
    assert {*asked, "hatchling", "editables"} <= locked


def test_the_lock_names_neither_a_registry_nor_a_machine() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert not re.search(r"(^|\s)(/|--(extra-)?index-url|--find-links)", lock)


def test_every_locked_package_has_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for name, rest in re.findall(r"^([a-z0-9-]+)==(.*(?:\n .*)*)", lock, re.MULTILINE):
        assert "--hash=sha256:" in rest, name


def test_links_of_the_readme_lead_somewhere() -> None:
    for page in ("README.md", "SECURITY.md"):
        for target in re.findall(r"\]\((?!https:)([^)]+)\)", (ROOT / page).read_text()):
            assert (ROOT / target).exists(), target
