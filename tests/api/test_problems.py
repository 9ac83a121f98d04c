import pytest

from sockade.api.problems import problem
from sockade.guard.handshake import Refuse
from sockade.protocol.events import Event
from sockade.protocol.problems import event_of
from sockade.protocol.reasons import STATUS, Reason


def test_every_reason_has_a_status() -> None:
    assert set(STATUS) == set(Reason)
    assert all(400 <= status < 600 for status in STATUS.values())


@pytest.mark.parametrize("reason", Reason)
def test_a_problem_shows_the_code_and_the_id_only(reason: Reason) -> None:
    response = problem(Refuse(reason, "detail"), "id1")
    assert response.status_code == STATUS[reason]
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert ("www-authenticate" in response.headers) is (response.status_code == 401)
    assert bytes(response.body).startswith(b'{"title":"')
    assert bytes(response.body).endswith(
        f'"status":{STATUS[reason]},"code":"{reason.value}","id":"id1","type":"about:blank"}}'.encode()
    )


def test_a_bad_token_is_told_in_the_challenge() -> None:
    """RFC 6750 §3.1."""
    assert problem(Refuse(Reason.TOKEN_INVALID), "1").headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert problem(Refuse(Reason.CREDENTIAL_MISSING), "1").headers["www-authenticate"] == "Bearer"


def test_retry_and_headers_are_shown() -> None:
    response = problem(Refuse(Reason.METHOD, retry_after=5, headers=(("allow", "GET"),)), "1")
    assert (response.status_code, response.headers["retry-after"], response.headers["allow"]) == (405, "5", "GET")


def test_refusals_are_logged_under_owasp_names() -> None:
    assert event_of(Reason.TOKEN_INVALID) is Event.AUTHN_FAIL
    assert event_of(Reason.ORIGIN) is Event.AUTHZ_FAIL
    assert event_of(Reason.BUSY) is Event.EXCESS
    assert event_of(Reason.BAD_REQUEST) is Event.INPUT_INVALID
