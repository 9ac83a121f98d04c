"""Collects what the tests of security cases saw: a pytest plugin.

A test's docstring that begins with "Case 21." or "Cases 21, 22." ties it to them. `observe` lets it note figures, and
what it prints is noted too.
`pytest --cases` runs those tests alone and prints the table; a run of all tests keeps it for
`python -m tests.security.table`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.security.table import CASES, Result, save, show

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCSTRING = re.compile(r"Cases? (\d+(?:(?:, and |, | and )\d+)*)\b")
FOLDER = Path(__file__).parent
CASE, NOTE = "case", "observed"


class Observe(Protocol):
    """Notes what was expected and what was seen, for the table."""

    def __call__(self, expected: str, observed: str, case: int | None = None) -> None: ...


@pytest.fixture
def observe(request: pytest.FixtureRequest) -> Observe:
    """Note a figure: `observe("at most 64 MiB", "41 MiB")`; with several cases, name the one it is of."""
    numbers = numbers_of(request.node)

    def note(expected: str, observed: str, case: int | None = None) -> None:
        for number in numbers if case is None else [case]:
            request.node.user_properties.append((NOTE, f"{number}|{observed} (expected {expected})"))

    return note


def numbers_of(item: pytest.Item) -> list[int]:
    """Return the cases a test belongs to."""
    told = getattr(getattr(item, "function", None), "__doc__", None) or ""
    match = DOCSTRING.match(told)
    return [int(number) for number in re.findall(r"\d+", match[1])] if match else []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", action="store_true", help="run the tests of security cases alone and print the table")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for number in numbers_of(item):
            if number not in CASES:
                raise pytest.UsageError(f"{item.nodeid}: there is no case {number}")
            item.user_properties.append((CASE, number))
    if config.getoption("cases"):
        wanted = [item for item in items if numbers_of(item) or FOLDER in item.path.parents]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(wanted)])
        items[:] = wanted


def pytest_configure(config: pytest.Config) -> None:
    # With xdist the reports of every worker reach the controller, which alone keeps them.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Keeper(config))


class Keeper:
    """The results of a run, by case."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.results: dict[int, Result] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            for number in [value for name, value in report.user_properties if name == CASE]:
                result = self.results.setdefault(int(str(number)), Result())
                if report.outcome == "passed":
                    result.passed += 1
                else:
                    (result.failed if report.failed else result.skipped).append(report.nodeid)
        if report.when == "call":
            for number, note in self.notes(report):
                self.results.setdefault(number, Result()).observed.append(note)

    def notes(self, report: pytest.TestReport) -> Iterator[tuple[int, str]]:
        for name, value in report.user_properties:
            if name == NOTE:
                number, _, note = str(value).partition("|")
                yield int(number), note
            elif name == CASE:
                yield from ((int(str(value)), line) for line in report.capstdout.splitlines() if line)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        # A run of some tests says nothing of the other cases.
        whole = self.config.args_source is pytest.Config.ArgsSource.TESTPATHS and not self.config.getoption("keyword")
        if whole and self.results and not self.config.getoption("collectonly"):
            save(self.results)
        if self.config.getoption("cases"):
            terminalreporter.ensure_newline()
            show(self.results)
