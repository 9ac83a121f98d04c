from contextlib import suppress
from pathlib import Path

import pytest
from joserfc.jwk import ECKey, OKPKey

from sockade.errors import StartError
from sockade.identity.keys import ServerKeys, locked


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_first_start_makes_private_keys_and_the_next_finds_them(tmp_path: Path) -> None:
    first = ServerKeys.open(tmp_path, now=5)
    again = ServerKeys.open(tmp_path, now=6)
    assert first.signing_kid == again.signing_kid
    assert first.refresh == again.refresh
    assert len(first.refresh) == 32
    assert mode(tmp_path / "keys") == 0o700
    files = sorted((tmp_path / "keys").iterdir())
    assert [path.name for path in files] == ["refresh.key", f"signing.5.{first.signing_kid}.pem"]
    assert {mode(path) for path in files} == {0o600}


def test_the_public_key_set_holds_the_thumbprint_and_nothing_private(tmp_path: Path) -> None:
    keys = ServerKeys.open(tmp_path, now=5)
    [key] = keys.jwks(5, 330)["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
    assert key["kid"] == OKPKey.import_key(dict(key)).thumbprint()
    assert "signing" not in repr(keys)


def test_the_newest_key_signs_and_the_one_before_verifies(tmp_path: Path) -> None:
    old = ServerKeys.open(tmp_path, now=5)
    new = OKPKey.generate_key("Ed25519")
    path = tmp_path / "keys" / f"signing.10.{new.thumbprint()}.pem"
    path.write_bytes(new.as_pem(private=True))
    path.chmod(0o600)
    keys = ServerKeys.open(tmp_path, now=20)
    assert keys.signing_kid == new.thumbprint()
    assert set(keys.verifying(20, 330)) == {old.signing_kid, new.thumbprint()}
    assert len(keys.jwks(20, 330)["keys"]) == 2


def test_a_key_that_was_replaced_verifies_for_the_overlap_and_not_after(tmp_path: Path) -> None:
    """Case 28."""
    old = ServerKeys.open(tmp_path, now=100)
    new = ServerKeys.rotate(tmp_path, now=200)
    assert old.signing_kid in new.verifying(200 + 330, 330)
    assert set(new.verifying(200 + 330 + 5, 330)) == {new.signing_kid}


def test_a_running_server_takes_a_new_key_and_the_loss_of_an_old_one(tmp_path: Path) -> None:
    """Case 28."""
    keys = ServerKeys.open(tmp_path, now=100)
    first = keys.signing_kid
    keys.reload()
    assert not keys.reload()
    ServerKeys.rotate(tmp_path, now=200)
    assert keys.reload()
    assert keys.signing_kid != first
    [path] = tmp_path.glob(f"keys/*{first}*")
    path.unlink()
    assert keys.reload()
    assert first not in keys.verifying(200, 330)


def test_two_rotations_within_a_second_are_in_order(tmp_path: Path) -> None:
    ServerKeys.open(tmp_path, now=100)
    kids = [ServerKeys.rotate(tmp_path, now=100).signing_kid for _ in range(3)]
    assert ServerKeys.open(tmp_path, now=100).signing_kid == kids[-1]
    assert len(set(kids)) == 3


def test_rotation_deletes_keys_that_verify_nothing_any_more(tmp_path: Path) -> None:
    first = ServerKeys.open(tmp_path, now=100).signing_kid
    ServerKeys.rotate(tmp_path, now=200)
    ServerKeys.rotate(tmp_path, now=10_000)
    assert len(list(tmp_path.glob("keys/signing.*"))) == 2
    assert not list(tmp_path.glob(f"keys/*{first}*"))


def test_a_folder_without_a_key_leaves_the_keys_as_they_were(tmp_path: Path) -> None:
    keys = ServerKeys.open(tmp_path, now=100)
    kid = keys.signing_kid
    [path] = tmp_path.glob("keys/signing.*")
    path.unlink()
    with pytest.raises(StartError, match="no signing key"):
        keys.reload()
    assert keys.signing_kid == kid


def put(folder: Path, made_at: int, mode: int = 0o600, content: bytes = b"") -> Path:
    """Put a new key's file there as an operator might."""
    key = OKPKey.generate_key("Ed25519")
    path = folder / "keys" / f"signing.{made_at}.{key.thumbprint()}.pem"
    path.write_bytes(content or key.as_pem(private=True))
    path.chmod(mode)
    return path


def kids(keys: ServerKeys) -> set[str]:
    return set(keys.verifying(200, 330))


def test_a_new_key_that_was_refused_is_taken_once_its_mode_is_mended(tmp_path: Path) -> None:
    """Mending the mode does not change the folder."""
    keys = ServerKeys.open(tmp_path, now=100)
    before = kids(keys)
    path = put(tmp_path, 150, mode=0o644)
    for _ in range(2):
        with pytest.raises(StartError, match="chmod 600"):
            keys.reload()
    assert kids(keys) == before
    path.chmod(0o600)
    assert keys.reload()
    assert len(kids(keys)) == 2
    assert keys.signing_kid in path.name
    assert not keys.reload()


@pytest.mark.parametrize("damage", ["another file", "the refresh key", "the folder", "a known key"])
def test_a_key_whose_file_is_gone_is_retired_whatever_is_wrong_beside_it(tmp_path: Path, damage: str) -> None:
    """Case 28: a compromised key must not stay because of something else."""
    keys = ServerKeys.open(tmp_path, now=100)
    first = keys.signing_kid
    ServerKeys.rotate(tmp_path, now=150)
    keys.reload()
    second = keys.signing_kid
    if damage == "another file":
        put(tmp_path, 180, content=b"nonsense")
    elif damage == "the refresh key":
        (tmp_path / "keys" / "refresh.key").write_bytes(b"short")
    elif damage == "the folder":
        (tmp_path / "keys").chmod(0o755)
    else:
        next(tmp_path.glob(f"keys/*{second}*")).write_bytes(b"nonsense")
    next(tmp_path.glob(f"keys/*{first}*")).unlink()
    with suppress(StartError):
        keys.reload()
    assert kids(keys) == {second}


def test_who_holds_the_folder_holds_up_no_running_server(tmp_path: Path) -> None:
    keys = ServerKeys.open(tmp_path, now=100)
    put(tmp_path, 150)
    with locked(tmp_path / "keys"):
        assert keys.reload()
    assert len(kids(keys)) == 2


def test_keys_that_stay_are_the_same_objects(tmp_path: Path) -> None:
    """What is remembered of good signatures (`AccessTokens`) hangs on them."""
    keys = ServerKeys.open(tmp_path, now=100)
    first = keys.signing
    put(tmp_path, 150)
    keys.reload()
    assert keys.found[0].key is first


@pytest.mark.parametrize("which", ["keys", "keys/refresh.key", "keys/signing.*"])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, which: str) -> None:
    ServerKeys.open(tmp_path, now=5)
    [path] = tmp_path.glob(which)
    path.chmod(path.stat().st_mode | 0o040)
    with pytest.raises(StartError, match="chmod"):
        ServerKeys.open(tmp_path, now=6)


@pytest.mark.parametrize("content", [b"", b"nonsense", OKPKey.generate_key("Ed25519").as_pem(private=True),
                                     ECKey.generate_key("P-256").as_pem(private=True)])  # fmt: skip
def test_a_file_that_is_not_the_key_its_name_says_is_refused(tmp_path: Path, content: bytes) -> None:
    ServerKeys.open(tmp_path, now=5)
    [path] = tmp_path.glob("keys/signing.*")
    path.write_bytes(content)
    with pytest.raises(StartError):
        ServerKeys.open(tmp_path, now=6)


def test_a_damaged_refresh_key_is_refused(tmp_path: Path) -> None:
    ServerKeys.open(tmp_path, now=5)
    (tmp_path / "keys" / "refresh.key").write_bytes(b"short")
    with pytest.raises(StartError, match="32 bytes: restore it, or delete it"):
        ServerKeys.open(tmp_path, now=6)
    (tmp_path / "keys" / "refresh.key").unlink()
    assert len(ServerKeys.open(tmp_path, now=6).refresh) == 32


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("in the way")
    (tmp_path / "keys").chmod(0o600)
    with pytest.raises(StartError, match="cannot be used"):
        ServerKeys.open(tmp_path, now=5)
