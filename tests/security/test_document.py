"""What docs/security.md says of cases, files and settings is compared with the project."""

from __future__ import annotations

import re
from pathlib import Path

from tests.security.table import CASES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_case_that_is_referred_to_is_there() -> None:
    rows = [line.rstrip(" |").rpartition("|")[2] for line in PAGE.splitlines() if line.startswith("|")]
    referred = {
        int(number) for row in rows if re.fullmatch(r"[\d, –]+", row.strip()) for number in re.findall(r"\d+", row)
    }
    assert len(referred) > 40
    assert referred <= set(CASES)


def test_every_file_that_is_named_is_there() -> None:
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE):
        assert (ROOT / "src" / "sockade" / name).exists() or (ROOT / name).exists(), name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_every_case_has_its_place_in_the_table() -> None:
    assert list(CASES) == list(range(1, 87))
