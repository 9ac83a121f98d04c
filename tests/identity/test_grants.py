"""Subscription tokens: for one user and one channel, never in the place of an access token, and revocable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sockade.guard.handshake import Refuse
from sockade.guard.identity import Carrier, Credential, Grant, Secret
from sockade.identity.grants import SubscriptionTokens
from sockade.settings import CredentialSettings, IssuerSettings, Settings
from tests.identity.test_tokens import NOW, Forge
from tests.identity.world import World, bearer, reason, world
from tests.security.issuer import AUD, ISS, by_hmac, compact

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b"a secret of more than two hundred and fifty-six bits"


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


def tokens_of(forge: Forge) -> SubscriptionTokens:
    return SubscriptionTokens(forge.keys, CredentialSettings(), forge.clock)


def proved(forge: Forge, **changes: Any) -> Grant | Refuse:
    """Return what a token with changed claims comes to; `typ` changes the header."""
    header = {"alg": "EdDSA", "typ": changes.pop("typ", "subscription+jwt"), "kid": forge.keys.signing_kid}
    claims = {"iss": "sockade", "aud": "sockade", "sub": "ana", "channel": "room:a", "exp": NOW + 300, "iat": NOW}
    found = tokens_of(forge).prove(forge.sign(header, {"jti": "1", **claims, **changes}))
    return found if isinstance(found, Refuse) else found[0]


def test_an_issued_token_grants_its_channel(forge: Forge) -> None:
    tokens = tokens_of(forge)
    found = tokens.prove(tokens.issue("ana", "room:a", 60, b'{"seat":1}'))
    assert not isinstance(found, Refuse)
    assert found[0] == Grant("ana", "room:a", NOW + 60, b'{"seat":1}')


def test_it_never_lasts_longer_than_access_tokens_do(forge: Forge) -> None:
    tokens = tokens_of(forge)
    found = tokens.prove(tokens.issue("ana", "room:a", 10_000))
    assert not isinstance(found, Refuse)
    assert found[0].expires_at == NOW + 300


def test_the_forged_ones_are_like_the_issued_ones(forge: Forge) -> None:
    assert proved(forge) == Grant("ana", "room:a", NOW + 300)


@pytest.mark.parametrize(
    "changes",
    [
        {"typ": "at+jwt"},
        {"typ": "JWT"},
        {"iss": "other"},
        {"aud": "other"},
        {"channel": None},
        {"iat": NOW + 31},
        {"exp": NOW + 301},
    ],
    ids=str,
)
def test_any_other_is_refused(forge: Forge, changes: dict[str, Any]) -> None:
    """Case 27."""
    assert reason(proved(forge, **changes)) == "token_invalid"


def test_an_expired_one_says_so(forge: Forge) -> None:
    assert reason(proved(forge, exp=NOW)) == "token_expired"


def test_a_changed_one_is_refused(forge: Forge) -> None:
    tokens = tokens_of(forge)
    token = tokens.issue("ana", "room:a").reveal()
    for broken in (token[:-4] + "AAAA", token.replace(".", "..", 1), "", "a.b.c", "x" * 5_000, "ä.ö.ü"):
        assert reason(tokens.prove(Secret(broken))) == "token_invalid"


async def test_it_is_for_its_user_and_channel_alone(here: World) -> None:
    token = Secret(here.authority.subscription_token("ana", "room:a"))
    assert isinstance(await here.authority.grant(token, "ana", "room:a"), Grant)
    assert reason(await here.authority.grant(token, "bob", "room:a")) == "token_invalid"
    assert reason(await here.authority.grant(token, "ana", "room:b")) == "token_invalid"


async def test_neither_kind_of_token_passes_for_the_other(here: World) -> None:
    """Case 27."""
    token = Secret(here.authority.subscription_token("ana", "room:a"))
    assert reason(await here.authority.verify(Credential(Carrier.BEARER, token), origin=None)) == "token_invalid"
    access = bearer(await here.tokens()).value
    assert reason(await here.authority.grant(access, "ana", "room:a")) == "token_invalid"


async def test_what_is_revoked_grants_nothing(here: World) -> None:
    token = Secret(here.authority.subscription_token("ana", "room:a"))
    granted = await here.authority.grant(token, "ana", "room:a")
    assert isinstance(granted, Grant)
    told: list[bool] = []
    here.authority.on_revoke(lambda: told.append(granted.holds()))
    here.clock.step(2)
    assert granted.holds()
    await here.authority.revoke_before(here.clock.wall(), "ana")
    assert told[-1:] == [False]
    assert reason(await here.authority.grant(token, "ana", "room:a")) == "revoked"
    here.clock.step(2)
    again = Secret(here.authority.subscription_token("ana", "room:a"))
    assert isinstance(await here.authority.grant(again, "ana", "room:a"), Grant)


async def test_another_issuer_grants_channels_to_its_own_users(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    corp = IssuerSettings(issuer=ISS, audience=AUD, secret_file=secret)
    async with world(tmp_path / "data", Settings(issuers={"corp": corp})) as there:

        def signed(typ: str = "subscription+jwt", **changes: Any) -> Secret:
            claims = {"iss": ISS, "aud": AUD, "sub": "eve", "channel": "room:a", "iat": NOW, "exp": NOW + 300}
            body = {name: value for name, value in (claims | changes).items() if value is not None}
            return Secret(compact({"alg": "HS256", "typ": typ}, body, by_hmac(SECRET)))

        assert await there.authority.grant(signed(info=[1]), "corp:eve", "room:a") == Grant(
            "corp:eve", "room:a", NOW + 300, b"[1]"
        )
        assert reason(await there.authority.grant(signed(), "eve", "room:a")) == "token_invalid"
        for broken in (signed("at+jwt"), signed(channel=None), signed(aud="other"), signed(exp=NOW + 10_000)):
            assert reason(await there.authority.grant(broken, "corp:eve", "room:a")) == "token_invalid"
        there.clock.step(301)
        assert reason(await there.authority.grant(signed(), "corp:eve", "room:a")) == "token_expired"
        identity = await there.authority.verify(
            Credential(
                Carrier.BEARER,
                signed(
                    "at+jwt",
                    channel=None,
                    channels=["a", "b"],
                    subs={"b": {}, "c": {}},
                    iat=NOW + 300,
                    exp=NOW + 600,
                    info={"name": "Eve"},
                ),
            ),
            origin=None,
        )
        assert not isinstance(identity, Refuse)
        assert (identity.channels, identity.info) == (("a", "b", "c"), b'{"name":"Eve"}')
