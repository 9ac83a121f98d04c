import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import UnsupportedAlgorithmError
from joserfc.jwk import OKPKey

from sockade.clock import SteppedClock
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Identity, Secret, SessionId
from sockade.identity import tokens
from sockade.identity.keys import ServerKeys, SigningKey
from sockade.identity.stores import Session, SessionKind
from sockade.identity.tokens import REGISTRY, AccessTokens
from sockade.settings import CredentialSettings
from tests.identity.world import reason

NOW = 1_800_000_000


class Forge:
    """Signs whatever it is told with a key of its own choice."""

    def __init__(self, folder: Path) -> None:
        self.clock = SteppedClock()
        self.keys = ServerKeys.open(folder, now=NOW)
        self.tokens = AccessTokens(self.keys, CredentialSettings(), self.clock)
        self.session = Session(SessionId("5e55"), "ana", "admin", SessionKind.TOKEN, NOW, NOW, NOW + 86_400.0)
        self.header: dict[str, Any] = {"alg": "EdDSA", "typ": "at+jwt", "kid": self.keys.signing_kid}
        self.claims: dict[str, Any] = {
            "iss": "sockade", "aud": "sockade", "sub": "ana", "exp": NOW + 300, "iat": NOW, "jti": "1",
            "sid": "5e55", "role": "user", "scope": "a b",
        }  # fmt: skip

    def sign(self, header: dict[str, Any], claims: object, key: OKPKey | None = None) -> Secret:
        text = f"{b64(json.dumps(header))}.{b64(json.dumps(claims))}"
        private = (key or self.keys.signing).private_key
        assert private is not None
        return Secret(f"{text}.{b64(private.sign(text.encode()))}")  # type: ignore[union-attr]

    def verify_claims(self, **changes: object) -> Identity | Refuse:
        return self.tokens.verify(self.sign(self.header, self.claims | changes))


def b64(content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture
def forge(folder: Path) -> Forge:
    return Forge(folder)


def test_an_issued_token_proves_its_session(forge: Forge) -> None:
    token, expires_in = forge.tokens.issue(forge.session)
    assert expires_in == 300
    assert forge.tokens.verify(token) == Identity("ana", "admin", frozenset(), SessionId("5e55"), NOW + 300)
    assert token.reveal() not in repr(token)


def test_a_token_never_outlives_its_session(forge: Forge) -> None:
    short = Session(SessionId("5e55"), "ana", "user", SessionKind.COOKIE, NOW, NOW, NOW + 60.5)
    token, expires_in = forge.tokens.issue(short)
    assert expires_in == 60
    forge.clock.step(60 + 30)
    assert reason(forge.tokens.verify(token)) == "token_expired"


def test_the_forge_itself_makes_good_tokens(forge: Forge) -> None:
    """What the other tests change is then the only thing that is wrong."""
    answer = forge.verify_claims()
    assert isinstance(answer, Identity)
    assert answer.scopes == {"a", "b"}


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "HS256", "ES256", "RS256", "Ed25519", "", None, 1])
def test_any_other_algorithm_is_refused(forge: Forge, alg: object) -> None:
    """Case 21."""
    good = forge.sign(forge.header | {"alg": alg}, forge.claims).reveal()
    assert reason(forge.tokens.verify(Secret(good))) == "token_invalid"
    assert reason(forge.tokens.verify(Secret(good.rpartition(".")[0] + "."))) == "token_invalid"


def test_hs256_with_the_public_key_as_secret_is_refused(forge: Forge) -> None:
    """Case 21."""
    public = forge.keys.signing.as_pem(private=False), forge.keys.signing.as_der(private=False)
    jwk = json.dumps(forge.keys.jwks(NOW, 330)["keys"][0]).encode()
    for secret in (*public, jwk):
        text = f"{b64(json.dumps(forge.header | {'alg': 'HS256'}))}.{b64(json.dumps(forge.claims))}"
        forged = f"{text}.{b64(hmac.digest(secret, text.encode(), hashlib.sha256))}"
        assert reason(forge.tokens.verify(Secret(forged))) == "token_invalid"


@pytest.mark.parametrize("field", ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "whatever"])
def test_a_header_with_anything_more_is_refused(forge: Forge, field: str) -> None:
    """Case 22."""
    value: object = ["exp"] if field in ("crit", "x5c") else "https://evil.example/keys"
    assert reason(forge.tokens.verify(forge.sign(forge.header | {field: value}, forge.claims))) == "token_invalid"


@pytest.mark.parametrize("kid", ["", "../../etc/passwd", "' OR 1=1 --", "k" * 10_000, "unknown", None, 5])
def test_a_kid_is_looked_up_in_the_key_set_only(forge: Forge, kid: object) -> None:
    """Case 23."""
    assert reason(forge.tokens.verify(forge.sign(forge.header | {"kid": kid}, forge.claims))) == "token_invalid"


def test_a_key_of_someone_else_is_refused_even_under_our_kid(forge: Forge) -> None:
    other = OKPKey.generate_key("Ed25519")
    assert reason(forge.tokens.verify(forge.sign(forge.header, forge.claims, other))) == "token_invalid"
    theirs = forge.header | {"kid": other.thumbprint()}
    assert reason(forge.tokens.verify(forge.sign(theirs, forge.claims, other))) == "token_invalid"


@pytest.mark.parametrize("typ", ["JWT", "refresh+jwt", "AT+JWT", "", None])
def test_only_access_tokens_are_access_tokens(forge: Forge, typ: object) -> None:
    """Case 27."""
    assert reason(forge.tokens.verify(forge.sign(forge.header | {"typ": typ}, forge.claims))) == "token_invalid"


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "exp", "iat", "jti", "sid", "role", "scope"])
def test_every_claim_is_required(forge: Forge, claim: str) -> None:
    """Case 26."""
    claims = {key: value for key, value in forge.claims.items() if key != claim}
    assert reason(forge.tokens.verify(forge.sign(forge.header, claims))) == "token_invalid"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"iss": "other"}, "token_invalid"),
        ({"aud": "other"}, "token_invalid"),
        ({"aud": ["sockade"]}, "token_invalid"),
        ({"exp": "1900000000"}, "token_invalid"),
        ({"exp": NOW - 30, "iat": NOW - 300}, "token_expired"),
        ({"iat": NOW + 31, "exp": NOW + 300}, "token_invalid"),
        ({"nbf": NOW + 31}, "token_invalid"),
        ({"exp": NOW + 301}, "token_invalid"),
        ({"exp": NOW + 10**9}, "token_invalid"),
    ],
)
def test_wrong_claims_are_refused(forge: Forge, changes: dict[str, object], expected: str) -> None:
    """Cases 26, 27."""
    assert reason(forge.verify_claims(**changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expires_at"),
    [
        ({"exp": NOW - 29, "iat": NOW - 300}, NOW + 1),
        ({"iat": NOW + 30, "exp": NOW + 330}, NOW + 330),
        ({"nbf": NOW + 30}, NOW + 300),
    ],
)
def test_the_leeway_bears_clocks_that_differ(forge: Forge, changes: dict[str, object], expires_at: int) -> None:
    answer = forge.verify_claims(**changes)
    assert isinstance(answer, Identity)
    assert answer.expires_at == expires_at


def test_a_changed_signature_or_payload_is_refused(forge: Forge) -> None:
    head, _, signature = forge.sign(forge.header, forge.claims).reveal().split(".")
    forged = f"{head}.{b64(json.dumps(forge.claims | {'role': 'admin'}))}.{signature}"
    assert reason(forge.tokens.verify(Secret(forged))) == "token_invalid"


class TestRemembered:
    """A token that is shown again: its signature is not verified anew, and everything else is judged each time."""

    @pytest.fixture
    def verifications(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        seen: list[str] = []

        def counted(token: str, *args: Any, **kwargs: Any) -> Any:
            seen.append(token)
            return deserialize(token, *args, **kwargs)

        deserialize = jws.deserialize_compact
        monkeypatch.setattr(jws, "deserialize_compact", counted)
        return seen

    def test_one_signature_is_verified_once(self, forge: Forge, verifications: list[str]) -> None:
        token, other = forge.tokens.issue(forge.session)[0], forge.tokens.issue(forge.session)[0]
        first = forge.tokens.prove(token)
        assert not isinstance(first, Refuse)
        assert forge.tokens.prove(token) == first
        assert len(verifications) == 1
        assert forge.tokens.prove(other) != first
        assert len(verifications) == 2

    def test_times_are_judged_each_time(self, forge: Forge) -> None:
        token, _ = forge.tokens.issue(forge.session)
        assert isinstance(forge.tokens.verify(token), Identity)
        forge.clock.step(300 + 30)
        assert reason(forge.tokens.verify(token)) == "token_expired"
        forge.clock.step(-300 - 30 - 100)
        assert reason(forge.tokens.verify(token)) == "token_invalid"

    def test_a_key_that_is_gone_verifies_nothing_any_more(self, forge: Forge) -> None:
        token = forge.sign(forge.header, forge.claims)
        assert isinstance(forge.tokens.verify(token), Identity)
        forge.keys.found = ServerKeys.open(forge.keys._folder / "others", now=NOW).found
        assert reason(forge.tokens.verify(token)) == "token_invalid"

    def test_another_key_under_its_id_does_not_take_over(self, forge: Forge) -> None:
        token = forge.sign(forge.header, forge.claims)
        assert isinstance(forge.tokens.verify(token), Identity)
        (ours,) = forge.keys.found
        forge.keys.found = [SigningKey(ours.made_at, ours.kid, OKPKey.generate_key("Ed25519"))]
        assert reason(forge.tokens.verify(token)) == "token_invalid"

    def test_no_character_of_it_may_change(self, forge: Forge) -> None:
        token = forge.sign(forge.header, forge.claims).reveal()
        assert isinstance(forge.tokens.verify(Secret(token)), Identity)
        for at in range(len(token)):
            changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            if at == len(token) - 1 and isinstance(forge.tokens.verify(Secret(changed)), Identity):
                continue  # the last character of base64url carries bits that nobody reads
            assert reason(forge.tokens.verify(Secret(changed))) == "token_invalid"

    def test_what_is_refused_is_not_remembered(self, forge: Forge, verifications: list[str]) -> None:
        bad = forge.sign(forge.header, forge.claims, OKPKey.generate_key("Ed25519"))
        for _ in range(2):
            assert reason(forge.tokens.verify(bad)) == "token_invalid"
        assert len(verifications) == 2
        assert not forge.tokens._good

    def test_no_more_are_remembered_than_have_room(self, forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tokens, "REMEMBERED", 3)
        for _ in range(10):
            assert isinstance(forge.tokens.verify(forge.tokens.issue(forge.session)[0]), Identity)
        assert len(forge.tokens._good) == 3


def test_size_is_judged_before_anything_is_parsed(forge: Forge) -> None:
    big = forge.sign(forge.header, forge.claims | {"filler": "x" * 4_096})
    assert reason(forge.tokens.verify(big)) == "token_invalid"


@pytest.mark.parametrize("payload", ["[]", "null", "1", '"x"', "[" * 1000, "{", '{"iss":NaN}'])
def test_a_signed_payload_that_is_no_claims_is_refused(forge: Forge, payload: str) -> None:
    token = jws.serialize_compact(forge.header, payload, forge.keys.signing, registry=REGISTRY)
    assert reason(forge.tokens.verify(Secret(token))) == "token_invalid"


@settings(max_examples=300)
@given(text=st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,90}"))
def test_any_other_string_is_refused(folder: Path, text: str) -> None:
    """Case 29."""
    assert reason(Forge(folder).tokens.verify(Secret(text))) == "token_invalid"


@given(
    header=st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.lists(st.text())) | st.lists(st.text())
)
def test_any_header_of_ours_or_not_is_judged(folder: Path, header: object) -> None:
    token = f"{b64(json.dumps(header))}.e30.{b64(b'0' * 64)}"
    assert reason(Forge(folder).tokens.verify(Secret(token))) == "token_invalid"


@pytest.mark.parametrize("alg", ["none", "HS256", "ES256", "Ed25519"])
def test_the_registry_itself_knows_no_other_algorithm(alg: str) -> None:
    """Behind the header's own check: either alone is enough."""
    with pytest.raises(UnsupportedAlgorithmError):
        REGISTRY.get_alg(alg)
