import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sockade.configuration import KEYS, load
from sockade.doors.certificates import ensure_local_pair
from sockade.errors import SettingsError
from sockade.exposure import problems, weakened
from sockade.settings import (
    AdminSettings,
    CredentialSettings,
    LimitSettings,
    OriginSettings,
    ServerSettings,
    Settings,
    TlsSettings,
    is_loopback,
)

NOW = datetime.now(UTC)
REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("SOCKADE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wrong(config: Path | None = None, **flags: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(config, {key.replace("__", "."): value for key, value in flags.items()})
    return list(caught.value.problems)


def write(text: str, name: str = "sockade.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    return path


# Where values come from.


def test_without_anything_the_defaults_hold() -> None:
    assert load() == Settings()


def test_each_source_beats_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("[server]\nport = 1\nhost = '127.0.0.1'\n[limits]\nheaders = 1\nmessage_bytes = 1\n")
    assert load().server.port == 1
    write("2", "secrets/server__port")
    write("2\n", "secrets/limits__headers")
    write("...", "secrets/..data")
    monkeypatch.setenv("SOCKADE_SECRETS_DIR", str(folder / "secrets"))
    assert load().server.port == 2
    monkeypatch.setenv("SOCKADE_SERVER__PORT", "3")
    assert load().server.port == 3
    found = load(None, {"server.port": 4, "server.host": None})
    assert found.server.port == 4
    assert (found.limits.headers, found.limits.message_bytes, found.server.host) == (2, 1, "127.0.0.1")


def test_a_named_file_is_read_instead_of_the_one_in_the_working_directory() -> None:
    write("[server]\nport = 1\n")
    assert load(write("[server]\nport = 2\n", "other/settings.toml")).server.port == 2


def test_paths_in_the_file_start_from_the_file() -> None:
    found = load(write("[server]\ndata_dir='data'\n[tls]\ncertificate='c.pem'\nkey='/k.pem'\n", "etc/s.toml"))
    assert found.server.data_dir == Path("etc/data")
    assert found.tls == TlsSettings(certificate=Path("etc/c.pem"), key=Path("/k.pem"))


@pytest.mark.parametrize("text", ["a.example, b.example", '["a.example", "b.example"]'])
def test_lists_in_the_environment_are_json_or_parts_between_commas(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOCKADE_SERVER__NAMES", text)
    assert load().server.names == ("a.example", "b.example")


# What is wrong with single values.


def test_all_problems_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[server]\nprot = 1\n[limits]\nheaders = 0\n[sever]\n[origins]\nallowed = ['*']\n")
    monkeypatch.setenv("SOCKADE_LOG__LEVEL", "loud")
    monkeypatch.setenv("SOCKADE_LGO__LEVEL", "info")
    found = wrong(server__port=70_000)
    assert len(found) == 7, found
    text = "\n".join(found)
    assert "sockade.toml: server.prot is not a setting: did you mean server.port?" in text
    assert "sockade.toml: sever is not a table of settings: did you mean [server]?" in text
    assert "sockade.toml: limits.headers is 0, but must be greater than or equal to 1." in text
    assert "SOCKADE_LGO__LEVEL is not a setting: did you mean SOCKADE_LOG__LEVEL?" in text
    assert "SOCKADE_LOG__LEVEL (log.level) is \"loud\", but must be 'debug', 'info', 'warning' or 'error'." in text
    assert "--port (server.port) is 70000, but must be less than or equal to 65535." in text
    assert 'origins.allowed holds "*"' in text


def test_rules_are_not_applied_to_tables_that_are_wrong_anyway() -> None:
    write("[tls]\nkey = 'k.pem'\ncertificate = 5\n[server]\nhost = '0.0.0.0'\n")
    assert len(wrong()) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("server = 5", r"server is 5, but must be a table\."),
        ("[limits]\nmessage_byte = 1", r"limits\.message_byte is not a setting: did you mean limits\.message_bytes\?"),
        ("[limits]\nzzz = 1", r"did you mean \w+\.\w+\?"),
        ("port = 1", r"port is not a setting: did you mean server\.port\?"),
        ("server_port = 1", r"server_port is not a setting: did you mean server\.port\?"),
        ("[prot]", r"prot is not a table of settings: did you mean \[\w+\]\?"),
        ("[addresses]\nallow = ['10.0.0.0/8', '10.0.0.300']", r'allow is "10.0.0.300", but must be a network such as'),
        ("[server]\nport = 'x'", r'server\.port is "x", but must be a valid integer'),
        ("[server]\ndata_dir = ''", r'server\.data_dir is "", but must name a file or folder'),
        ("[channels.a]\nschema_file = ''", r'channels\.a\.schema_file is "", but must name a file or folder'),
        ("[server]\nport = true", r"server\.port is true, but must be a number\."),
        ("[limits]\ntls_seconds = true", r"limits\.tls_seconds is true, but must be a number\."),
        ("[channels.news]\nhistory_size = true", r"history_size is true, but must be a number\."),
        ("[addresses]\ndeny = [1]", r"addresses\.deny is 1, but must be a network such as"),
        ("[addresses]\ntrusted_proxies = [true]", r"trusted_proxies is true, but must be a network such as"),
        ("[credentials]\nissuer = ''", r'credentials\.issuer is "", but must have at least 1 character\.'),
        ("[credentials]\naudience = ''", r'credentials\.audience is "", but must have at least 1 character\.'),
        ("[server]\nport =\n", r"sockade\.toml is not valid TOML: .*line 2"),
    ],
)
def test_a_wrong_value_is_told_with_its_place_and_what_is_allowed(text: str, sentence: str) -> None:
    write(text)
    found = wrong()
    assert len(found) == 1, found
    assert re.search(sentence, found[0])


def test_a_wrong_value_in_a_list_is_told_once() -> None:
    write("[addresses]\ndeny = ['x', 'y']")
    assert len(wrong()) == 2


def test_a_value_that_is_long_is_cut() -> None:
    write(f"[server]\nport = '{'x' * 500}'")
    assert len(wrong()[0]) < 250


@pytest.mark.parametrize("slip", ["SERVER_PORT", "PORT", "SERVER_PROT", "_SERVER__PORT"])
def test_a_variable_without_its_table_or_what_parts_them_is_known_again(
    slip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SOCKADE_{slip}", "1")
    assert wrong() == [f"SOCKADE_{slip} is not a setting: did you mean SOCKADE_SERVER__PORT?"]


def test_values_of_secret_files_and_of_unknown_keys_are_not_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("hunter2", "secrets/server__port")
    write("hunter2", "secrets/srever__port")
    write("hunter2", "secrets/server__pasword")
    write("[tls]\npassphrase = 'hunter2'")
    monkeypatch.setenv("SOCKADE_SECRETS_DIR", str(folder / "secrets"))
    found = wrong()
    assert len(found) == 4, found
    assert "hunter2" not in str(found)
    assert "server__port (server.port) is ***" in str(found)
    assert f"{folder}/secrets/srever__port is not a setting: did you mean server__port?" in found


def test_a_table_in_the_environment_that_is_no_table_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCKADE_SERVER", "8443")
    assert wrong() == ["SOCKADE_SERVER (server) is 8443, but must be a table."]


def test_a_table_in_the_environment_may_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[server]\nport = 1\nhost = '::1'")
    monkeypatch.setenv("SOCKADE_SERVER", '{"port": 9}')
    assert (load().server.port, load().server.host) == (9, "::1")


def test_a_flag_beats_a_table_that_is_none() -> None:
    write("server = 5")
    assert load(None, {"server.port": 1}).server.port == 1


def test_files_that_cannot_be_read_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrong(Path("missing.toml")) == ["missing.toml does not exist: name another file with --config."]
    assert wrong(folder) == [f"{folder} cannot be read (Is a directory)."]
    monkeypatch.setenv("SOCKADE_SECRETS_DIR", str(folder / "missing"))
    assert re.fullmatch(
        r"SOCKADE_SECRETS_DIR \(.*missing\) cannot be read \(.*\): name a folder of files\.", wrong()[0]
    )


# Secure or refuse.


@pytest.fixture
def pair(folder: Path) -> tuple[Path, Path]:
    made = ensure_local_pair(folder / "pair", (), NOW.timestamp()).certificate
    head, tail = made.read_bytes().split(b"-----BEGIN CERTIFICATE")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    key.touch(0o600)
    key.write_bytes(head)
    certificate.write_bytes(b"-----BEGIN CERTIFICATE" + tail)
    return certificate, key


def with_pair(pair: tuple[Path, Path], **server: object) -> Settings:
    return Settings(server=ServerSettings(**server), tls=TlsSettings(certificate=pair[0], key=pair[1]))  # type: ignore[arg-type]


def only(settings: Settings, now: datetime = NOW) -> str:
    found = problems(settings, now)
    assert len(found) == 1, found
    assert found[0].endswith((".", "`.", '".')), "a sentence"
    return found[0]


def test_the_defaults_are_secure() -> None:
    assert problems(Settings()) == []
    assert weakened(Settings()) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LocalHost"])
def test_loopback_needs_no_certificate(host: str) -> None:
    assert is_loopback(host)
    assert problems(Settings(server=ServerSettings(host=host))) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.1", "chat.example.com", "localhost.example.com"])
def test_off_loopback_without_certificate_is_refused(host: str) -> None:
    assert "server.host" in only(Settings(server=ServerSettings(host=host)))


def test_a_good_pair_is_accepted_anywhere(pair: tuple[Path, Path]) -> None:
    assert problems(with_pair(pair, host="0.0.0.0", names=("chat.example.com",)), NOW) == []


def test_off_loopback_without_names_nobody_could_connect(pair: tuple[Path, Path]) -> None:
    assert "server.names is empty" in only(with_pair(pair, host="0.0.0.0"))


def test_a_certificate_and_a_key_come_together(pair: tuple[Path, Path]) -> None:
    assert "without tls.key" in only(Settings(tls=TlsSettings(certificate=pair[0])))
    assert "without tls.certificate" in only(Settings(tls=TlsSettings(key=pair[1])))


def test_an_ended_or_future_certificate_is_refused(pair: tuple[Path, Path]) -> None:
    assert "expired on 2" in only(with_pair(pair), NOW.replace(year=NOW.year + 1))
    assert "is not valid before" in only(with_pair(pair), NOW.replace(year=NOW.year - 1))


def test_a_client_ca_that_ended_is_refused(folder: Path) -> None:
    settings = Settings(tls=TlsSettings(client_ca=ensure_local_pair(folder / "made", (), NOW.timestamp()).authority))
    assert problems(settings, NOW) == []
    assert "tls.client_ca" in only(settings, NOW.replace(year=NOW.year + 50))


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o640])
def test_a_key_that_others_can_read_is_refused(
    pair: tuple[Path, Path], mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pair[1].stat().st_uid == 0:
        os.chown(pair[1], 65_534, 65_534)
    pair[1].chmod(mode)
    assert f"chmod 600 {pair[1]}" in only(with_pair(pair))


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes files of root")
@pytest.mark.parametrize(("mode", "refused"), [(0o640, False), (0o660, True), (0o644, True)])
def test_a_group_may_read_a_key_of_root(pair: tuple[Path, Path], mode: int, refused: bool) -> None:
    pair[1].chmod(mode)
    assert bool(problems(with_pair(pair), NOW)) is refused


def test_a_pair_that_does_not_match_is_refused(folder: Path, pair: tuple[Path, Path]) -> None:
    other = ensure_local_pair(folder / "other", (), NOW.timestamp())
    assert "does not belong to tls.key" in only(with_pair((pair[0], other.key)))


def test_an_encrypted_key_is_refused(pair: tuple[Path, Path]) -> None:
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key(pair[1].read_bytes(), None)
    secret = s.BestAvailableEncryption(b"x" * 12)
    pair[1].write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, secret))
    assert "is encrypted" in only(with_pair(pair))


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_no_certificate_or_key_is_refused(pair: tuple[Path, Path], which: int) -> None:
    pair[which].write_text("nothing")
    assert "is not a PEM" in only(with_pair(pair))
    pair[which].unlink()
    assert "cannot be read (No such file" in only(with_pair(pair))


def test_a_data_directory_that_others_can_read_is_refused(folder: Path) -> None:
    data = folder / "data"
    settings = Settings(server=ServerSettings(data_dir=data))
    assert problems(settings) == [], "it is made"
    data.mkdir(0o700)
    assert problems(settings) == []
    data.chmod(0o750)
    assert f"chmod 700 {data}" in only(settings)


def test_a_data_directory_that_cannot_be_one_is_refused(folder: Path) -> None:
    write("x", "file")
    assert "is not a folder" in only(Settings(server=ServerSettings(data_dir=folder / "file")))
    assert "cannot be used" in only(Settings(server=ServerSettings(data_dir=folder / "file" / "data")))


@pytest.mark.parametrize("origin", ["*", "https://*.example.com"])
@pytest.mark.parametrize("cookie", [True, False])
def test_an_origin_for_everyone_is_refused(origin: str, cookie: bool) -> None:
    settings = Settings(origins=OriginSettings(allowed=(origin,)), credentials=CredentialSettings(cookie=cookie))
    assert ("cookie" in only(settings)) is cookie


@pytest.mark.parametrize(
    ("origin", "exact"),
    [
        ("https://app.example.com", True),
        ("https://App.example.com:8443", True),
        ("https://[2001:db8::1]:8443", True),
        ("https://192.0.2.1", True),
        ("http://localhost", True),
        ("http://localhost:3000", True),
        ("http://app.example.com", False),
        ("http://localhost.example.com", False),
        ("https://app.example.com/", False),
        ("https://app.example.com/x", False),
        ("https://user@app.example.com", False),
        ("https://app.example.com:0", False),
        ("https://app.example.com:70000", False),
        ("https://app.example.com.", False),
        ("https://-app", False),
        ("https://[::1", False),
        ("https://[1.2.3.4]", False),
        ("https://[zz]", False),
        ("wss://app.example.com", False),
        ("null", False),
        ("app.example.com", False),
        ("", False),
    ],
)
def test_origins_are_exact(origin: str, exact: bool) -> None:
    found = problems(Settings(origins=OriginSettings(allowed=(origin,))))
    assert bool(found) is not exact, found


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("chat.example.com", True),
        ("localhost", True),
        ("192.0.2.1", True),
        ("2001:db8::1", True),
        ("xn--bcher-kva.example", True),
        ("https://chat.example.com", False),
        ("chat.example.com:8443", False),
        ("*.example.com", False),
        ("chat..example", False),
        ("bücher.example", False),
        ("a b", False),
        ("a\n", False),
        ("", False),
        ("x" * 64, False),
        (".".join(["x" * 60] * 5), False),
    ],
)
def test_names_are_host_names(name: str, fine: bool) -> None:
    assert bool(problems(Settings(server=ServerSettings(names=(name,))))) is not fine


def test_something_must_be_accepted_as_a_credential() -> None:
    settings = Settings(credentials=CredentialSettings(cookie=False, bearer=False, ticket=False))
    assert "switch one on" in only(settings)


@pytest.mark.parametrize("tls", [True, False])
def test_the_server_api_off_loopback_needs_tls_and_a_certificate(tls: bool) -> None:
    found = problems(Settings(admin=AdminSettings(host="0.0.0.0", tls=tls)))
    assert [("admin.tls is off" in one, "no certificate" in one) for one in found] == [
        *([] if tls else [(True, False)]),
        (False, True),
    ]


def test_the_server_api_off_loopback_needs_names(tmp_path: Path) -> None:
    pair = ensure_local_pair(tmp_path / "elsewhere", [], NOW.timestamp())
    tls = TlsSettings(certificate=pair.certificate, key=pair.key)
    assert "server.names" in only(Settings(admin=AdminSettings(host="0.0.0.0"), tls=tls))


def test_an_api_key_that_is_named_must_be_there_long_and_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "backend.key"
    settings = Settings(admin=AdminSettings(api_key_file=path))
    assert "admin.api_key_file" in only(settings)
    path.write_text("k" * 31 + "\n")
    path.chmod(0o600)
    assert "shorter than 256 bits" in only(settings)
    path.write_text(f"{'k' * 31:43}\n")  # A key of blanks alone would be none, which every request shows.
    assert "shorter than 256 bits" in only(settings)
    path.write_text("k" * 43 + "\n")
    assert problems(settings) == []
    path.chmod(0o644)
    assert "can be read by others" in only(settings)


def test_an_api_key_in_the_data_directory_is_judged_if_it_is_there(tmp_path: Path) -> None:
    settings = Settings(server=ServerSettings(data_dir=tmp_path / "data"))
    assert problems(settings) == []
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "api.key").write_text("short")
    assert {one.partition(" ")[0] for one in problems(settings)} == {"admin.api_key_file"}


def test_a_relative_api_key_file_starts_from_the_settings_file(folder: Path) -> None:
    write("[admin]\napi_key_file = 'backend.key'\n", "etc/own.toml")
    assert load(Path("etc/own.toml")).api_key_path == Path("etc/backend.key")


def test_what_of_the_server_api_is_opened_up_is_named() -> None:
    admin = AdminSettings(host="192.0.2.1", port=9_000, tls=False, body_bytes=2_000_000)
    assert weakened(Settings(admin=admin)) == [
        "admin.host lets other machines reach the server API on 192.0.2.1.",
        "admin.tls is off: whoever takes the port before the server does is shown the API key.",
        "admin.body_bytes is 2000000, above the default of 1048576.",
    ]


def test_a_folder_of_secrets_without_a_name_is_not_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "server__port").write_text("1")
    monkeypatch.setenv("SOCKADE_SECRETS_DIR", "")
    assert wrong() == ["SOCKADE_SECRETS_DIR is empty: name a folder of files, or leave it out."]


def test_a_message_must_fit_where_it_is_kept() -> None:
    found = problems(Settings(limits=LimitSettings(message_bytes=1 << 27)))
    assert [sentence.split()[0] for sentence in found] == [
        "limits.outbox_bytes",
        "limits.incomplete_bytes",
        "limits.message_bytes_burst",
    ]
    found = problems(Settings(limits=LimitSettings(message_bytes=262_145)))
    assert [sentence.split()[0] for sentence in found] == ["limits.message_bytes_burst"]
    assert not problems(Settings(limits=LimitSettings(message_bytes=262_144)))


def test_what_is_weaker_than_its_default_is_named() -> None:
    settings = Settings(
        origins=OriginSettings(allowed=("https://app.example.com",)),
        limits=LimitSettings(message_bytes=131_072, connections=20_000, headers=10),
        credentials=CredentialSettings(leeway_seconds=60, bearer=False),
    )
    assert weakened(settings) == [
        "origins.allowed lets pages of https://app.example.com connect.",
        "credentials.leeway_seconds is 60, above the default of 30.",
        "limits.message_bytes is 131072, above the default of 65536.",
    ]


# The reference.


def test_reference_lists_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| `([^`]*)` \|", REFERENCE.read_text(), re.MULTILINE))
    assert list(rows) == list(KEYS)
    for key, default in rows.items():
        table, _, name = key.partition(".")
        assert default == shown(getattr(getattr(Settings(), table), name)), key


def shown(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[]"
    if isinstance(value, int | float):
        return f"{value:,g}" if isinstance(value, float) else f"{value:,}"
    return f'"{value}"'
