"""What `docs/architecture.md` says of the layout is compared with the source."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
SOURCE = ROOT / "src" / "sockade"


def test_every_part_has_its_line_and_every_line_its_part() -> None:
    told = set(re.findall(r"^\| `sockade/([^`]+)` \|", PAGE, re.MULTILINE))
    there = {path.name for path in SOURCE.glob("*.py")} | {
        f"{path.name}/" for path in SOURCE.iterdir() if path.is_dir()
    }
    assert told == there - {"__main__.py", "__pycache__/"}


def test_every_file_and_function_that_is_named_is_there() -> None:
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE):
        assert (SOURCE / name).exists() or (ROOT / "src" / name).exists() or (ROOT / name).exists(), name
    source = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    for owner, function in re.findall(r"`(\w+)\.(\w+)`", PAGE):
        if owner[0].isupper():
            assert f"class {owner}" in source, owner
            assert f"def {function}(" in source, f"{owner}.{function}"
    for function in re.findall(r"\.py`, `([a-z_]+)`", PAGE):
        assert f"def {function}(" in source, function
