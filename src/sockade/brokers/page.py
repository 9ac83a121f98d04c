"""What one look at a history brings: so many publications, and so many bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockade.messaging.broker import weight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sockade.messaging.broker import Publication


def page(publications: Iterable[Publication], limit: int, budget: int) -> list[Publication]:
    """Take publications up to a limit (below 0: none) and a budget, and no more of them than that and one.

    The first one is taken whatever its weight.
    """
    found: list[Publication] = []
    if limit == 0:
        return found
    for one in publications:
        budget -= weight(one)
        if budget < 0 and found:
            break
        found.append(one)
        if len(found) == limit:
            break
    return found
