"""`sockade check` names every mistake of a file at once."""

import json
from pathlib import Path

import pytest

from .conftest import Sockade

MISTAKES = """
[server]
host = "0.0.0.0"          # others can reach it, and there is no certificate
prot = 9443               # not a setting
names = ["https://chat.example.com"]

[addresses]
deny = ["10.0.0.1/8"]     # host bits are set
trusted_proxies = ["0.0.0.0/0"]

[origins]
allowed = ["*"]

[limits]
headers = "many"
outbox_bytes = 10
"""
NAMED = (
    'server.host is "0.0.0.0"',
    "server.prot is not a setting: did you mean server.port?",
    "server.names holds 'https://chat.example.com'",
    "addresses.deny",
    "addresses.trusted_proxies holds",
    'origins.allowed holds "*"',
    "limits.headers",
    "limits.outbox_bytes is smaller",
)


def problems(out: str, *, as_json: bool) -> list[str]:
    if as_json:
        return list(json.loads(out)["problems"])
    return [line.removeprefix("problem").strip() for line in out.splitlines() if line.startswith("problem")]


@pytest.mark.parametrize("as_json", [False, True])
def test_every_mistake_of_a_file_is_named_once(sockade: Sockade, *, as_json: bool) -> None:
    Path("sockade.toml").write_text(MISTAKES)
    status, out, _ = sockade("check", *(["--json"] if as_json else []))
    found = problems(out, as_json=as_json)
    assert status == 1
    for words in NAMED:
        assert len([sentence for sentence in found if words in sentence]) == 1, words
    assert len(found) == len(NAMED)


def test_each_says_where_it_stands_what_is_there_and_what_may_be(
    sockade: Sockade, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("sockade.toml").write_text(
        "[server]\nprot = 1\nport = 99999\n[limits]\nheaders = 'many'\n[log]\nlevel = 'loud'\n"
        "[origins]\nallowed = ['*']\n[tls]\nkey = 'nowhere.key'\n"
    )
    monkeypatch.setenv("SOCKADE_CREDENTIALS__TICKET_SECONDS", "900")
    status, out, _ = sockade("check", "--json")
    assert status == 1
    assert sorted(problems(out, as_json=True)) == [
        'SOCKADE_CREDENTIALS__TICKET_SECONDS (credentials.ticket_seconds) is "900", but must be less than or equal to'
        " 60.",
        'sockade.toml: limits.headers is "many", but must be a valid integer, unable to parse string as an integer.',
        "sockade.toml: log.level is \"loud\", but must be 'debug', 'info', 'warning' or 'error'.",
        'sockade.toml: origins.allowed holds "*", but any page could use a visitor\'s cookie: list each origin, such as'
        ' "https://app.example.com".',
        "sockade.toml: server.port is 99999, but must be less than or equal to 65535.",
        "sockade.toml: server.prot is not a setting: did you mean server.port?",
        "sockade.toml: tls.key is set without tls.certificate: set both.",
    ]


def test_what_is_only_refused_together_says_where_it_stands_too(sockade: Sockade) -> None:
    Path("sockade.toml").write_text("[origins]\nallowed = ['*']\n")
    status, out, _ = sockade("check")
    assert status == 1
    assert problems(out, as_json=False)[0].startswith('sockade.toml: origins.allowed holds "*"')


def test_a_misspelt_key_is_not_reported_as_missing_as_well(sockade: Sockade) -> None:
    Path("sockade.toml").write_text("[server]\nhost = '0.0.0.0'\n[tls]\ncertificat = 'x'\nkey = 'y'\n")
    status, out, _ = sockade("check", "--json")
    assert status == 1
    (only,) = problems(out, as_json=True)
    assert only.endswith("tls.certificat is not a setting: did you mean tls.certificate?")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tls]\nclient_ca = 'nowhere.pem'\n", "tls.client_ca (nowhere.pem) cannot be read"),
        ("[tls]\nclient_ca = 'sockade.toml'\n", "tls.client_ca (sockade.toml) is not a PEM certificate"),
        ("[addresses]\nallow_file = 'nowhere'\n", "addresses.allow_file (nowhere) cannot be read"),
        ("[addresses]\nallow_file = 'empty'\n", "addresses.allow_file (empty) holds no network"),
        ("[addresses]\ndeny_file = 'list'\n", "addresses.deny_file (list) line 2 is not a network"),
        ("[addresses]\ndeny_file = 'binary'\n", "addresses.deny_file (binary) is not text"),
        ("[addresses]\ntrusted_proxies = ['::/0']\n", "everybody could claim any address"),
        ('[addresses]\ndeny_file = "\\u0000"\n', "no path holds a NUL"),
    ],
)
def test_files_that_are_named_are_read(sockade: Sockade, text: str, told: str) -> None:
    Path("sockade.toml").write_text(text)
    Path("empty").write_text("# nobody\n")
    Path("list").write_text("10.0.0.0/8\n10.0.0.0/99 # too long\n")
    Path("binary").write_bytes(b"\xff\xfe")
    status, out, _ = sockade("check")
    assert (status, len(problems(out, as_json=False))) == (1, 1)
    assert told in out


def test_an_empty_deny_list_and_trusted_proxies_are_fine_and_the_latter_told(sockade: Sockade) -> None:
    Path("empty").write_text("\n")
    Path("sockade.toml").write_text("[addresses]\ndeny_file = 'empty'\ntrusted_proxies = ['10.0.0.5/32']\n")
    status, out, _ = sockade("check")
    assert status == 0
    assert "weakened  addresses.trusted_proxies lets 10.0.0.5/32 say" in out
