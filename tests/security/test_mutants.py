"""The mutants of `make mutants` fit the source as it is: one that does not would prove nothing."""

from __future__ import annotations

import shlex
from collections import Counter

from tests.security.mutants import MUTANTS, ROOT


def test_every_mutant_fits_the_source_in_one_place_and_changes_it() -> None:
    for mutant in MUTANTS:
        text = (ROOT / "src" / "sockade" / mutant.file).read_text()
        assert text.count(mutant.before) == 1, mutant.name
        assert mutant.before != mutant.after, mutant.name


def test_every_mutant_has_a_name_of_its_own_and_tests_that_are_there() -> None:
    assert [name for name, count in Counter(mutant.name for mutant in MUTANTS).items() if count > 1] == []
    for mutant in MUTANTS:
        paths = [word.partition("::")[0] for word in shlex.split(mutant.tests) if word.startswith("tests/")]
        assert paths, mutant.name
        assert all((ROOT / path).exists() for path in paths), mutant.name
