"""Quotas and lifetimes at admission."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockade.guard.admit import Counts, Quotas, admit
from sockade.guard.handshake import Admit, Refuse
from sockade.guard.identity import Identity
from sockade.protocol.reasons import Reason

if TYPE_CHECKING:
    from .conftest import MakeHandshake

QUOTAS = Quotas(user=2, total=10)
ADA = Identity("ada", expires_at=100.0)


def test_identity_within_the_quotas_is_admitted_until_it_expires(handshake: MakeHandshake) -> None:
    assert admit(handshake(), ADA, 99.0, Counts(1, 9), QUOTAS) == Admit(ADA, 100.0)


def test_identity_that_expired_meanwhile_is_refused(handshake: MakeHandshake) -> None:
    answer = admit(handshake(), ADA, 100.0, Counts(0, 0), QUOTAS)
    assert isinstance(answer, Refuse)
    assert answer.reason is Reason.TOKEN_EXPIRED


def test_quotas_refuse_and_say_when_to_come_back(handshake: MakeHandshake) -> None:
    for counts, reason in ((Counts(2, 2), Reason.USER_CONNECTIONS), (Counts(0, 10), Reason.SERVER_FULL)):
        answer = admit(handshake(), ADA, 0.0, counts, QUOTAS)
        assert isinstance(answer, Refuse)
        assert answer.reason is reason
        assert answer.retry_after
