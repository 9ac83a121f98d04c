"""What is set up wrongly is refused at the start; what tokens must be is in `tests/security/test_tokens.py`."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sockade.clock import SteppedClock
from sockade.configuration import load
from sockade.errors import SettingsError, StartError
from sockade.exposure import problems, weakened
from sockade.guard.handshake import Refuse
from sockade.guard.identity import Carrier, Credential, Identity, Secret
from sockade.identity import revocations
from sockade.identity.issuers import Issuers
from sockade.identity.revocations import Proof
from sockade.settings import IssuerSettings, ServerSettings, Settings
from tests.identity.world import bearer, reason, session_of, world
from tests.security.issuer import ISS, Signer, b64, claims, compact, key_set


def settings_of(tmp_path: Path, more: dict[str, Any] | None = None, **corp: Any) -> Settings:
    good: dict[str, Any] = {"issuer": ISS, "audience": "chat", "jwks_url": "https://corp.example/jwks"}
    tables = {"corp": IssuerSettings(**{k: v for k, v in (good | corp).items() if v is not None})}
    tables |= {name: IssuerSettings(**(good | table)) for name, table in (more or {}).items()}
    return Settings(server=ServerSettings(data_dir=tmp_path), issuers=tables)


ORDER_OF_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""SEC 2 §2.4.2."""


def shown(token: str) -> Credential:
    return Credential(Carrier.BEARER, Secret(token))


def signature_numbers(signature: str) -> tuple[bytes, bytes]:
    """Return r and s of a signature of ES256."""
    raw = base64.urlsafe_b64decode(signature + "==")
    return raw[:32], raw[32:]


def private_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def signer(clock: SteppedClock) -> Signer:
    """The other issuer; its tokens are as old as the test's clock says."""
    return Signer(clock=clock)


@pytest.mark.parametrize(
    ("corp", "said"),
    [
        ({}, ""),
        ({"audience": ""}, "issuers.corp.audience is not set"),
        ({"issuer": ""}, "issuers.corp.issuer is not set"),
        ({"issuer": "sockade"}, "that of credentials.issuer too"),
        ({"jwks_url": None}, "exactly one of"),
        ({"keys_file": "x", "jwks_url": "https://a.example"}, "exactly one of"),
        ({"algorithms": ("RS256", "PS256")}, ""),
        ({"algorithms": ("HS256", "ES256")}, "mixes HMAC and public keys"),
        ({"algorithms": ("HS256",)}, "whose key is secret"),
        ({"jwks_url": "http://corp.example/jwks"}, "must be https"),
        ({"jwks_url": "http://127.0.0.1:80/jwks"}, ""),
        ({"jwks_url": "https://user@corp.example/"}, "must be https"),
        ({"jwks_url": "https://corp.example:x/"}, "must be https"),
        ({"jwks_url": "file:///etc/passwd"}, "must be https"),
        ({"jwks_url": None, "keys_file": "/nowhere"}, "is not a file"),
        ({"jwks_url": None, "secret_file": "/nowhere"}, "cannot be read"),
    ],
)
def test_an_issuer_that_is_not_safe_is_refused(folder: Path, corp: dict[str, Any], said: str) -> None:
    found = problems(settings_of(folder, **corp))
    assert [said in sentence for sentence in found[:1]] == ([True] if said else [])


def test_two_issuers_of_one_name_are_refused(folder: Path) -> None:
    [found] = problems(settings_of(folder, {"other": {}}))
    assert "that of issuers.corp.issuer too" in found


def test_a_secret_is_long_and_private(folder: Path) -> None:
    path = private_file(folder / "secret", b"x" * 31 + b"\n")
    settings = settings_of(folder, jwks_url=None, secret_file=path)
    assert ["shorter than 256 bits" in found for found in problems(settings)] == [True]
    private_file(path, b"x" * 32)
    assert problems(settings) == []
    path.chmod(0o644)
    assert ["can be read by others" in found for found in problems(settings)] == [True]
    mixed = settings_of(folder, jwks_url=None, secret_file=path, algorithms=("ES256",))
    assert "is for HMAC" in problems(mixed)[0]


@pytest.mark.parametrize(
    "content", [Signer().key.as_pem(private=False), b"ssh-ed25519 " + b"A" * 60, b'{"kty":' + b" " * 40]
)
def test_a_public_key_is_no_secret(folder: Path, content: bytes) -> None:
    """Case 21."""
    path = private_file(folder / "secret", content)
    with pytest.raises(StartError, match="not an HMAC secret"):
        Issuers(settings_of(folder, jwks_url=None, secret_file=path), SteppedClock())


def test_a_longer_hash_needs_a_longer_secret(folder: Path) -> None:
    path = private_file(folder / "secret", b"x" * 40)
    settings = settings_of(folder, jwks_url=None, secret_file=path, algorithms=("HS256", "HS512"))
    with pytest.raises(StartError, match="at least 512"):
        Issuers(settings, SteppedClock())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nonsense", "neither"),
        (OKPKey.generate_key("Ed25519").as_pem(private=True), "neither"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "neither"),
        (RSAKey.generate_key(2048).as_pem(private=False), "no public key for EdDSA, ES256"),
        (ECKey.generate_key("P-384").as_pem(private=False), "no public key for"),
        (b'{"keys":[]}', "no public key for"),
    ],
)
def test_a_keys_file_without_a_fitting_key_is_refused(folder: Path, content: bytes, said: str) -> None:
    path = private_file(folder / "keys", content)
    with pytest.raises(StartError, match=said):
        Issuers(settings_of(folder, jwks_url=None, keys_file=path), SteppedClock())


def test_a_keys_file_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(StartError, match="cannot be read"):
        Issuers(settings_of(folder, jwks_url=None, keys_file=folder / "none"), SteppedClock())


@pytest.mark.parametrize("kid", [None, "mine"])
async def test_a_key_in_pem_has_the_id_that_is_set(
    folder: Path, clock: SteppedClock, signer: Signer, kid: str | None
) -> None:
    path = private_file(folder / "keys", signer.key.as_pem(private=False))
    issuers = Issuers(settings_of(folder, jwks_url=None, keys_file=path, kid=kid), clock)
    for shown in (None, "mine", "other"):
        token = signer.token({"kid": shown})
        issuer = issuers.of(Secret(token))
        assert issuer is not None
        assert (reason(await issuer.prove(token)) == "token_invalid") is (shown != kid)


@pytest.mark.filterwarnings("ignore:Key size")
def test_rsa_of_fewer_than_2048_bits_verifies_nothing(folder: Path) -> None:
    small = rsa.generate_private_key(65_537, 1_024).public_key()
    pem = small.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path = private_file(folder / "keys", pem)
    with pytest.raises(StartError, match="no public key for RS256"):
        Issuers(settings_of(folder, jwks_url=None, keys_file=path, algorithms=("RS256",)), SteppedClock())


async def test_roles_and_scopes_come_from_the_claims_that_are_set(
    folder: Path, clock: SteppedClock, signer: Signer
) -> None:
    path = private_file(folder / "keys.json", key_set(signer))
    plain = Issuers(settings_of(folder, jwks_url=None, keys_file=path), clock)
    mapped = Issuers(settings_of(folder, jwks_url=None, keys_file=path, role_claim="r", scope_claim="scp"), clock)
    token = signer.token(r="admin", role="admin", scope="a b", scp=["c", 1])
    for issuers, role, scopes in ((plain, "user", {"a", "b"}), (mapped, "admin", {"c"})):
        issuer = issuers.of(Secret(token))
        assert issuer is not None
        proof = await issuer.prove(token)
        assert (proof.identity.role, set(proof.identity.scopes)) == (role, scopes)  # type: ignore[union-attr]


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.e30.c", "é.e30.c", "a." + "A" * 5_000])
def test_what_names_no_issuer_is_nobodys(folder: Path, token: str) -> None:
    assert Issuers(settings_of(folder), SteppedClock()).of(Secret(token)) is None


async def test_a_token_of_a_wrong_issuer_is_refused_by_the_one_it_is_shown_to(
    folder: Path, clock: SteppedClock, signer: Signer
) -> None:
    """Case 27."""
    path = private_file(folder / "keys.json", key_set(signer))
    issuers = Issuers(settings_of(folder, jwks_url=None, keys_file=path), clock)
    issuer = issuers.of(Secret(signer.token()))
    assert issuer is not None
    assert reason(await issuer.prove(signer.token(iss="https://other.example"))) == "token_invalid"


async def test_an_expired_token_is_told_apart(folder: Path, clock: SteppedClock, signer: Signer) -> None:
    """Case 26."""
    path = private_file(folder / "keys.json", key_set(signer))
    issuer = Issuers(settings_of(folder, jwks_url=None, keys_file=path), clock).of(Secret(token := signer.token()))
    assert issuer is not None
    clock.step(300 + 25)
    assert not isinstance(await issuer.prove(token), Refuse)
    clock.step(10)
    assert reason(await issuer.prove(token)) == "token_expired"


async def test_a_header_that_is_none_is_refused(folder: Path) -> None:
    issuers = Issuers(settings_of(folder), SteppedClock())
    for token in (f"x.{compact({}, claims(), lambda _: b'').split('.')[1]}.x", compact({}, claims(), lambda _: b"")):
        issuer = issuers.of(Secret(token))
        assert issuer is not None
        assert reason(await issuer.prove(token)) == "token_invalid"


async def test_a_token_ends_whatever_signature_it_is_shown_with(folder: Path, clock: SteppedClock) -> None:
    key = ECKey.generate_key("P-256")
    path = private_file(folder / "keys.json", json.dumps({"keys": [key.as_dict(private=False)]}).encode())
    settings = settings_of(folder, jwks_url=None, keys_file=path)
    async with world(folder / "data", settings, clock) as here:
        token = jws.serialize_compact({"alg": "ES256", "typ": "at+jwt"}, json.dumps(claims(clock, jti=None)), key)
        signed, _, signature = token.rpartition(".")
        r, s = signature_numbers(signature)
        # Of every signature (r, s) there is (r, n - s), which whoever has the token can make.
        other = f"{signed}.{b64(r + (ORDER_OF_P256 - int.from_bytes(s, 'big')).to_bytes(32, 'big'))}"
        one, two = [await here.authority.verify(shown(text), origin=None) for text in (token, other)]
        assert isinstance(one, Identity)
        assert one == two
        await here.authority.sign_out(session_of(one))
        for text in (token, other):
            assert reason(await here.authority.verify(shown(text), origin=None)) == "revoked"


async def test_a_revocation_finds_a_token_beside_another_issuers_of_the_same_id(
    folder: Path, clock: SteppedClock, signer: Signer
) -> None:
    shop = Signer(clock=clock)
    paths = [private_file(folder / f"keys{n}.json", key_set(one)) for n, one in enumerate((signer, shop))]
    other = {"issuer": "https://shop.example", "jwks_url": None, "keys_file": paths[1]}
    settings = settings_of(folder, {"shop": other}, jwks_url=None, keys_file=paths[0])
    async with world(folder / "data", settings, clock) as here:
        tokens = signer.token(jti="1"), shop.token(jti="1", iss="https://shop.example")
        eve, bob = [await here.authority.verify(shown(token), origin=None) for token in tokens]
        assert isinstance(eve, Identity)
        assert isinstance(bob, Identity)
        clock.step(1)
        await here.authority.revoke_before(clock.now, eve.user)
        assert here.ended == [{eve.session}]


async def test_no_crowd_of_tokens_makes_another_issuers_forgotten(
    folder: Path, clock: SteppedClock, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "MAX_REMEMBERED", 3)
    path = private_file(folder / "keys.json", key_set(signer))
    settings = settings_of(folder, jwks_url=None, keys_file=path)
    async with world(folder / "data", settings, clock) as here:
        eve = await here.authority.verify(shown(signer.token()), origin=None)
        assert isinstance(eve, Identity)
        for _ in range(4):
            assert isinstance(await here.authority.verify(bearer(await here.tokens()), origin=None), Identity)
        clock.step(1)
        await here.authority.revoke_before(clock.now, eve.user)
        assert here.ended == [{eve.session}]


async def test_what_was_renewed_ends_with_the_token_that_renewed_it(
    folder: Path, clock: SteppedClock, signer: Signer
) -> None:
    path = private_file(folder / "keys.json", key_set(signer))
    settings = settings_of(folder, jwks_url=None, keys_file=path)
    async with world(folder / "data", settings, clock) as here:
        proof = await here.authority.prove(shown(signer.token(jti="newer")), origin=None)
        assert isinstance(proof, Proof)
        assert here.authority.renew(proof) is None
        await here.authority.revoke_token("newer")
        assert here.ended == [{session_of(proof.identity)}]


def test_what_is_weaker_than_the_default_is_named(folder: Path) -> None:
    found = weakened(settings_of(folder, token_type="JWT", token_seconds=3_600))
    assert [sentence.partition(" is ")[0] for sentence in found] == [
        "issuers.corp.token_type",
        "issuers.corp.token_seconds",
    ]


# The tables, from a file and the environment.


def test_issuers_come_from_a_file_and_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SOCKADE_")]:
        monkeypatch.delenv(name)
    file = folder / "sockade.toml"
    file.write_text(f'[issuers.corp]\nissuer = "{ISS}"\naudience = "a"\nkeys_file = "keys.json"\n')
    monkeypatch.setenv("SOCKADE_ISSUERS__CORP__AUDIENCE", "b")
    corp = load(file).issuers["corp"]
    assert (corp.issuer, corp.audience, corp.keys_file) == (ISS, "b", folder / "keys.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[issuers.corp]\naudienc = "x"', "issuers.corp.audienc is not a setting: did you mean issuers.corp.audience?"),
        ('[issuers.corp]\nalgorithms = ["none"]', "issuers.corp.algorithms is"),
        ("[issuers.corp]\ntoken_seconds = 1e9", "issuers.corp.token_seconds is 1000000000.0, but"),
        ("issuers = 1", "issuers is 1"),
        ("[issuers]\ncorp = 1", "issuers.corp is 1"),
        ("[issuers.'Not A Name']\n", "issuers.Not A Name is"),
    ],
)
def test_a_mistake_in_an_issuer_is_named(folder: Path, text: str, said: str) -> None:
    file = folder / "sockade.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert any(said in sentence for sentence in caught.value.problems), caught.value.problems
