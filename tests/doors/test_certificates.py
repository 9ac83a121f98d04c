import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from sockade.doors import certificates
from sockade.doors.certificates import Pair, describe, ensure_local_pair, pair_for, server_context, trust_commands
from sockade.errors import StartError
from sockade.settings import ServerSettings, Settings, TlsSettings

NOW = datetime.now(UTC).timestamp()
DAY = 86_400


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> ssl.SSLObject:
    """Carry out a handshake in memory and return the client's end."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (ours, theirs):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ours.version() is not None
    return ours


def trusting(authority: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return ensure_local_pair(tmp_path / "data", (), NOW)


@pytest.fixture
def context(pair: Pair) -> ssl.SSLContext:
    return server_context(Settings(), pair)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_who_trusts_the_local_ca_reaches_every_local_name(pair: Pair, context: ssl.SSLContext, name: str) -> None:
    assert pair.authority is not None
    assert shake(context, trusting(pair.authority), name).version() == "TLSv1.3"


def test_a_name_that_was_not_asked_for_is_not_served(pair: Pair, context: ssl.SSLContext) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake(context, trusting(pair.authority), "other.example")


def test_the_local_ca_cannot_vouch_for_other_names(tmp_path: Path) -> None:
    pair = ensure_local_pair(tmp_path, (), NOW)
    authority = certificates._read(tmp_path / "tls" / "ca-key.pem")
    forged = certificates._make_leaf(authority, ("bank.example",), datetime.fromtimestamp(NOW, UTC))
    pair.certificate.write_bytes(forged.pem())
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake(server_context(Settings(), pair), trusting(pair.authority), "bank.example")


def test_ca_certificate_is_directly_in_the_data_directory(tmp_path: Path) -> None:
    assert ensure_local_pair(tmp_path / "data", (), NOW).authority == tmp_path / "data" / "ca.pem"


def test_nobody_else_can_read_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = certificates.os.fsync
    monkeypatch.setattr(
        certificates.os,
        "fsync",
        lambda handle: (seen.append(stat.S_IMODE(certificates.os.fstat(handle).st_mode)), real(handle)),
    )
    ensure_local_pair(tmp_path / "data", (), NOW)
    assert set(seen) == {0o600}, "files have their mode before they have their content"
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in [tmp_path / "data", *(tmp_path / "data").rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_the_pair_stays_while_it_is_good(tmp_path: Path) -> None:
    first = ensure_local_pair(tmp_path, ("chat.test",), NOW).certificate.read_bytes()
    assert ensure_local_pair(tmp_path, ("Chat.test",), NOW + 59 * DAY).certificate.read_bytes() == first


def test_the_leaf_is_renewed_a_month_before_its_end_and_the_ca_stays(tmp_path: Path) -> None:
    pair = ensure_local_pair(tmp_path, (), NOW)
    leaf, authority = pair.certificate.read_bytes(), pair.authority.read_bytes()
    ensure_local_pair(tmp_path, (), NOW + 61 * DAY)
    assert pair.certificate.read_bytes() != leaf
    assert pair.authority.read_bytes() == authority


def test_a_leaf_that_was_made_while_the_clock_stood_ahead_is_made_anew(tmp_path: Path) -> None:
    first = ensure_local_pair(tmp_path, (), NOW)
    authority = (tmp_path / "ca.pem").read_bytes()
    ensure_local_pair(tmp_path, (), NOW + 70 * DAY)
    pair = ensure_local_pair(tmp_path, (), NOW)
    assert describe(pair.certificate).not_before.timestamp() <= NOW
    assert (pair, (tmp_path / "ca.pem").read_bytes()) == (first, authority)


def test_the_leaf_is_renewed_when_asked(tmp_path: Path) -> None:
    leaf = ensure_local_pair(tmp_path, (), NOW).certificate.read_bytes()
    assert ensure_local_pair(tmp_path, (), NOW, renew=True).certificate.read_bytes() != leaf


def test_an_ended_ca_is_replaced_with_its_leaf(tmp_path: Path) -> None:
    pair = ensure_local_pair(tmp_path, (), NOW - 3640 * DAY)
    old = pair.authority.read_bytes()
    ensure_local_pair(tmp_path, (), NOW)
    assert pair.authority.read_bytes() != old
    shake(server_context(Settings(), pair), trusting(pair.authority))


def test_new_names_are_served_by_a_ca_that_may_sign_them(tmp_path: Path) -> None:
    ensure_local_pair(tmp_path, (), NOW)
    pair = ensure_local_pair(tmp_path, ("chat.test", "192.0.2.7"), NOW)
    assert {"chat.test", "192.0.2.7", "localhost"} <= set(describe(pair.certificate).names)
    shake(server_context(Settings(), pair), trusting(pair.authority), "chat.test")
    shake(server_context(Settings(), pair), trusting(pair.authority), "192.0.2.7")


def test_a_leaf_of_a_removed_ca_is_replaced(tmp_path: Path) -> None:
    pair = ensure_local_pair(tmp_path, (), NOW)
    (tmp_path / "tls" / "ca-key.pem").unlink()
    pair.authority.unlink()
    pair = ensure_local_pair(tmp_path, (), NOW)
    shake(server_context(Settings(), pair), trusting(pair.authority))


@pytest.mark.parametrize("renew", [False, True])
def test_a_ca_whose_key_is_lost_is_not_replaced_unasked(tmp_path: Path, renew: bool) -> None:
    pair = ensure_local_pair(tmp_path, (), NOW)
    before = pair.authority.read_bytes()
    (tmp_path / "tls" / "ca-key.pem").unlink()
    with pytest.raises(StartError, match=r"ca-key\.pem, the key of the local CA .* is missing: put it back, or remove"):
        ensure_local_pair(tmp_path, (), NOW, renew=renew)
    assert pair.authority.read_bytes() == before


def test_a_certificate_that_is_no_ca_is_not_used_as_one(tmp_path: Path) -> None:
    pair = ensure_local_pair(tmp_path, (), NOW)
    (tmp_path / "tls" / "ca-key.pem").write_bytes(pair.certificate.read_bytes())
    ensure_local_pair(tmp_path, (), NOW)
    shake(server_context(Settings(), pair), trusting(pair.authority))


def test_a_lost_ca_certificate_is_published_again(tmp_path: Path) -> None:
    pair = ensure_local_pair(tmp_path, (), NOW)
    before = pair.authority.read_bytes()
    pair.authority.unlink()
    assert ensure_local_pair(tmp_path, (), NOW).authority.read_bytes() == before


@pytest.mark.parametrize("name", ["ca-key.pem", "server.pem"])
def test_a_damaged_file_stops_the_start_with_one_sentence(tmp_path: Path, name: str) -> None:
    ensure_local_pair(tmp_path, (), NOW)
    (tmp_path / "tls" / name).write_text("-----BEGIN NOTHING-----\n")
    with pytest.raises(StartError, match=rf"{name} is damaged: remove it") as caught:
        ensure_local_pair(tmp_path, (), NOW)
    assert "\n" not in str(caught.value)


def test_a_key_of_another_certificate_stops_the_start(tmp_path: Path) -> None:
    one, other = (ensure_local_pair(tmp_path / n, (), NOW).certificate for n in "ab")
    key = other.read_bytes().split(b"-----BEGIN CERTIFICATE")[0]
    one.write_bytes(key + b"-----BEGIN CERTIFICATE" + one.read_bytes().split(b"-----BEGIN CERTIFICATE")[1])
    with pytest.raises(StartError, match="key of another certificate"):
        ensure_local_pair(tmp_path / "a", (), NOW)


def test_a_data_directory_that_is_a_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StartError, match=r"choose another server\.data_dir"):
        ensure_local_pair(tmp_path / "data", (), NOW)


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    target = tmp_path / "elsewhere"
    (tmp_path / "tls" / ".ca-key.pem.new").symlink_to(target)
    ensure_local_pair(tmp_path, (), NOW)
    assert not target.exists()


def test_a_configured_pair_is_used_as_it_is(tmp_path: Path, pair: Pair) -> None:
    settings = Settings(tls=TlsSettings(certificate=pair.certificate, key=pair.key))
    assert pair_for(settings, NOW) == Pair(pair.certificate, pair.key)


def test_the_address_listened_on_is_in_the_local_certificate(tmp_path: Path) -> None:
    settings = Settings(server=ServerSettings(host="127.0.0.5", data_dir=tmp_path))
    assert "127.0.0.5" in describe(pair_for(settings, NOW).certificate).names


def test_old_tls_is_refused(pair: Pair, context: ssl.SSLContext) -> None:
    """Case 1."""
    client = trusting(pair.authority)
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        shake(context, client)


@pytest.mark.parametrize(
    ("cipher", "refused"),
    [
        ("ECDHE-ECDSA-AES256-SHA384", True),
        ("ECDHE-ECDSA-AES128-SHA", True),
        ("AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-AES128-CCM", True),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", False),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", False),
    ],
)
def test_tls_1_2_speaks_only_ecdhe_with_aead(pair: Pair, context: ssl.SSLContext, cipher: str, refused: bool) -> None:
    """Case 1."""
    client = trusting(pair.authority)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(cipher)
    if refused:
        with pytest.raises(ssl.SSLError):
            shake(context, client)
    else:
        assert shake(context, client).cipher()[0] == cipher


def test_context_negotiates_http_1_1_and_neither_compresses_nor_renegotiates(
    pair: Pair, context: ssl.SSLContext
) -> None:
    client = trusting(pair.authority)
    client.set_alpn_protocols(["h2", "http/1.1"])
    ours = shake(context, client)
    assert ours.selected_alpn_protocol() == "http/1.1"
    assert ours.compression() is None
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert not context.options & ssl.OP_NO_TICKET
    assert context.num_tickets > 0


def test_a_pair_that_does_not_match_stops_the_start(tmp_path: Path, pair: Pair) -> None:
    other = ensure_local_pair(tmp_path / "other", (), NOW)
    with pytest.raises(StartError, match="cannot be used"):
        server_context(Settings(), Pair(pair.authority, other.key))


def test_an_encrypted_key_stops_the_start_instead_of_asking(tmp_path: Path, pair: Pair) -> None:
    signed = certificates._read(pair.key)
    key = tmp_path / "encrypted.pem"
    key.write_bytes(
        signed.key.private_bytes(
            certificates.serialization.Encoding.PEM,
            certificates.serialization.PrivateFormat.PKCS8,
            certificates.serialization.BestAvailableEncryption(b"x" * 12),
        )
    )
    with pytest.raises(StartError, match="the key is encrypted"):
        server_context(Settings(), Pair(pair.certificate, key))


def test_description_says_for_whom_and_until_when(pair: Pair) -> None:
    found = describe(pair.certificate)
    assert found.names == ("localhost", "127.0.0.1", "::1")
    assert found.issuer == "CN=Sockade local CA"
    assert found.not_after == datetime.fromtimestamp(int(NOW), UTC) + timedelta(days=90)
    assert len(found.sha256.split(":")) == 32


def test_description_of_the_ca_lists_no_names(pair: Pair) -> None:
    assert describe(pair.authority).names == ()
    found = x509.load_pem_x509_certificate(pair.authority.read_bytes())
    assert found.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


@pytest.mark.parametrize("content", [None, "nothing"])
def test_description_of_what_is_no_certificate_fails_with_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "x.pem").write_text(content)
    with pytest.raises(StartError, match=r"x\.pem cannot be read"):
        describe(tmp_path / "x.pem")


def test_trust_commands_quote_the_path(tmp_path: Path) -> None:
    for _where, command in trust_commands(tmp_path / "my data" / "ca.pem"):
        assert f'"{tmp_path / "my data" / "ca.pem"}"' in command
