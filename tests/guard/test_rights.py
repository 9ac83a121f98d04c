"""Rights as texts: who has one, and that what is not a right is nobody's."""

from __future__ import annotations

import pytest

from sockade.guard.identity import Identity
from sockade.guard.rights import filled, has_any

ADA = Identity("ada", role="admin", scopes=frozenset({"room-a", "all", "{name}"}))
A = {"name": "a", "user": "ada"}


@pytest.mark.parametrize("right", ["everyone", "owner", "role:admin", "scope:all", "scope:room-{name}"])
def test_one_right_is_enough(right: str) -> None:
    assert has_any(["role:nobody", right], ADA, A)


@pytest.mark.parametrize(
    ("right", "variables"),
    [
        ("owner", {"user": "bob"}),
        ("owner", {}),
        ("role:user", A),
        ("scope:room-{name}", {"name": "b"}),
        ("scope:room-{other}", A),
        ("admin", A),
        ("Everyone", A),
        ("", A),
        ("scope:", A),
    ],
)
def test_what_is_not_held_or_no_right_permits_nobody(right: str, variables: dict[str, str]) -> None:
    assert not has_any([right], ADA, variables)


def test_no_rights_are_nobody() -> None:
    assert not has_any([], ADA, A)


def test_a_value_that_looks_like_a_variable_stays_as_it_is() -> None:
    assert filled("x-{name}", {"name": "{user}", "user": "ada"}) == "x-{user}"
    assert not has_any(["scope:{name}-{user}"], ADA, {"name": "{user}", "user": "room"})
