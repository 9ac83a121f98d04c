"""Decides whether an identity has one of some rights, such as `role:admin` or `scope:room-{name}`.

Rights are texts, so that a settings file can hold them; `sockade.settings.Right` says what they look like. One of
them is enough, and none at all is nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sockade.guard.identity import Identity

EVERYONE, OWNER = "everyone", "owner"
ROLE, SCOPE = "role", "scope"
USER_VARIABLE = "user"
"""The variable of a pattern that names the user to whom a channel belongs."""


def has_any(rights: Collection[str], identity: Identity, variables: Mapping[str, str]) -> bool:
    """Tell whether an identity has one of `rights` in the channel whose pattern has these variables."""
    return any(has(right, identity, variables) for right in rights)


def has(right: str, identity: Identity, variables: Mapping[str, str]) -> bool:
    """Tell whether an identity has one right. What is not a right is nobody's."""
    if right == EVERYONE:
        return True
    if right == OWNER:
        return variables.get(USER_VARIABLE) == identity.user
    kind, _, name = right.partition(":")
    if kind == ROLE:
        return identity.role == name
    if kind == SCOPE:
        # The values go in one by one, so that a value that looks like a variable stays as it is.
        return filled(name, variables) in identity.scopes
    return False


def filled(text: str, variables: Mapping[str, str]) -> str | None:
    """Return a text with its variables replaced by their values; None where it names one that there is not."""
    head, *rest = text.split("{")
    parts = [head]
    for piece in rest:
        name, _, tail = piece.partition("}")
        if name not in variables:
            return None
        parts += [variables[name], tail]
    return "".join(parts)
