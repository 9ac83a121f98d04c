"""What docs/security.md says of cases, files and settings is compared with the project."""

from __future__ import annotations

import re
from pathlib import Path

from tests.security.table import CASES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
UNTESTED = {number for number, case in CASES.items() if case.missing}


def cells(part: str) -> list[list[str]]:
    """Return the rows of the tables in a part of the page, without their heads."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
    return [row for row in rows if set("".join(row)) - set("- ")]


THREATS = cells(PAGE.partition("### STRIDE")[2].partition("\n#")[0])[1:]
REQUIREMENTS = cells(PAGE.partition("## OWASP ASVS")[2].partition("\n#")[0])[1:]


def cases_in(cell: str) -> set[int]:
    """Return the cases that a cell names: `30, 31, 38–45`."""
    found: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:–(\d+))?", cell):
        found |= set(range(int(first), int(last or first) + 1))
    return found


def with_tests() -> set[int]:
    """Return the cases that a test's docstring names."""
    texts = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    found = re.findall(r'"""Cases? (\d+(?:(?:, and |, | and )\d+)*)\b', texts)
    return {int(number) for numbers in found for number in re.findall(r"\d+", numbers)}


def test_the_threats_and_requirements_name_every_case_and_no_other() -> None:
    referred = set().union(*(cases_in(row[-1]) for row in [*THREATS, *REQUIREMENTS]))
    assert referred == set(CASES)


def test_every_requirement_says_where_and_is_proved_by_cases_that_have_tests() -> None:
    assert len(REQUIREMENTS) > 60
    for what, where, cases in REQUIREMENTS:
        assert where, what
        assert cases or "*not yet*" in where or "the operator's" in where, what
        assert cases_in(cases) <= with_tests() | UNTESTED, what


def test_a_case_has_a_test_or_says_why_not() -> None:
    assert set(CASES) - with_tests() <= UNTESTED


def test_a_requirement_is_named_once() -> None:
    numbers = [number for what, _, _ in REQUIREMENTS for number in re.findall(r"\d+\.\d+(?:\.\d+)?", what)]
    assert len(numbers) == len(set(numbers))


def test_every_file_that_is_named_is_there() -> None:
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE):
        assert (ROOT / "src" / "sockade" / name).exists() or (ROOT / name).exists(), name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_every_case_has_its_place_in_the_table() -> None:
    assert list(CASES) == list(range(1, 87))
