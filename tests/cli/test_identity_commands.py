import json
import os
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest

from .conftest import Sockade

PASSWORD = "correct horse battery staple"


def add(sockade: Sockade, name: str = "ann", *more: str) -> None:
    status, _, err = sockade("user", "add", name, "--password-stdin", *more, stdin=f"{PASSWORD}\n")
    assert status == 0, err


def stored_hash(folder: Path = Path(".sockade")) -> str:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(folder / "sockade.db")) as database:
        return str(database.execute("select password_hash from users").fetchone()[0])


def test_an_added_user_is_listed_with_role_and_state(sockade: Sockade) -> None:
    add(sockade, "bob", "--role", "moderator")
    add(sockade, "ann")
    status, out, _ = sockade("user", "list")
    assert status == 0
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["ann", "user", "active"],
        ["bob", "moderator", "active"],
    ]


def test_without_users_the_list_says_what_to_do(sockade: Sockade) -> None:
    status, out, err = sockade("user", "list")
    assert (status, out) == (0, "")
    assert "sockade user add NAME" in err


def test_data_directory_option_chooses_the_users(sockade: Sockade) -> None:
    add(sockade, "ann", "--data-dir", "one")
    assert "ann" in sockade("user", "list", "--data-dir", "one")[1]
    assert "ann" not in sockade("user", "list", "--data-dir", "two")[1]


def test_a_password_is_hashed_and_never_shown(sockade: Sockade) -> None:
    add(sockade)
    assert stored_hash().startswith("$argon2id$")
    assert PASSWORD.encode() not in Path(".sockade/sockade.db").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "stdin", "told"),
    [
        (("add", "ann"), "", "There is a user ann already"),
        (("add", "a b"), "", "A user name has"),
        (("add", "bob", "--role", "A B"), "", "A role has"),
        (("add", "bob"), "short\n", "12 to 128 characters"),
        (("add", "bob"), "\n", "no password on standard input"),
        (("password", "nobody"), "", "There is no user nobody"),
        (("disable", "nobody"), None, "There is no user nobody"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    sockade: Sockade, arguments: tuple[str, ...], stdin: str | None, told: str
) -> None:
    add(sockade)
    option = () if stdin is None else ("--password-stdin",)
    status, out, err = sockade("user", *arguments, *option, stdin=stdin or f"{PASSWORD}\n")
    assert (status, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 1


def test_without_a_terminal_the_password_must_be_piped(sockade: Sockade) -> None:
    status, _, err = sockade("user", "add", "ann", stdin="x")
    assert status == 2
    assert "--password-stdin" in err


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person types, in order."""
    answers: list[str] = []

    def ask(_prompt: str) -> str:
        if not answers:
            raise EOFError
        return answers.pop(0)

    monkeypatch.setattr("getpass.getpass", ask)
    return answers


def test_on_a_terminal_the_password_is_asked_for_twice(sockade: Sockade, typed: list[str]) -> None:
    typed += [PASSWORD, PASSWORD]
    assert sockade("user", "add", "ann", terminal=True)[0] == 0
    assert typed == []


def test_two_different_passwords_add_nobody(sockade: Sockade, typed: list[str]) -> None:
    typed += [PASSWORD, f"{PASSWORD}!"]
    status, _, err = sockade("user", "add", "ann", terminal=True)
    assert status == 2
    assert "not the same" in err
    assert sockade("user", "list")[1] == ""


def test_a_terminal_that_is_closed_adds_nobody(sockade: Sockade, typed: list[str]) -> None:
    status, _, err = sockade("user", "add", "ann", terminal=True)
    assert status == 2
    assert "No password was given" in err


def test_a_new_password_replaces_the_old_and_ends_sessions(sockade: Sockade) -> None:
    add(sockade)
    before = stored_hash()
    sockade("token", "new", "ann")
    status, out, _ = sockade("user", "password", "ann", "--password-stdin", stdin=f"{PASSWORD} two\n")
    assert status == 0
    assert "sessions ended: 1" in out
    assert stored_hash() != before


def test_a_disabled_user_gets_no_token(sockade: Sockade) -> None:
    add(sockade)
    sockade("token", "new", "ann")
    assert "sessions ended: 1" in sockade("user", "disable", "ann")[1]
    assert "disabled" in sockade("user", "list")[1]
    status, out, err = sockade("token", "new", "ann")
    assert (status, out) == (2, "")
    assert "is disabled" in err


def test_an_unknown_user_gets_no_token(sockade: Sockade) -> None:
    assert sockade("token", "new", "ann")[0] == 2


def test_a_new_token_stands_alone_on_standard_output_and_is_good(sockade: Sockade) -> None:
    add(sockade)
    status, out, err = sockade("token", "new", "ann")
    assert status == 0
    assert len(out.split()) == 1
    assert "good for 300 s" in err
    status, shown, _ = sockade("token", "inspect", stdin=out)
    assert status == 0
    assert '"sub": "ann"' in shown
    assert shown.endswith("good     for ann\n")
    assert sockade("token", "inspect", out.strip())[1] == shown


def test_a_new_token_in_json_is_the_answer_of_a_sign_in(sockade: Sockade) -> None:
    add(sockade)
    answer = json.loads(sockade("token", "new", "ann", "--json")[1])
    assert set(answer) == {"user", "access_token", "refresh_token", "expires_in"}
    assert (answer["user"], answer["expires_in"]) == ("ann", 300)


def test_a_token_for_a_channel_signs_nobody_in(sockade: Sockade) -> None:
    add(sockade)
    status, out, err = sockade("token", "new", "ann", "--channel", "room:a")
    assert status == 0
    assert "For ann in room:a" in err
    claims = json.loads(urlsafe_b64decode(out.split(".")[1] + "=="))
    assert (claims["sub"], claims["channel"]) == ("ann", "room:a")
    status, shown, _ = sockade("token", "inspect", stdin=out)
    assert status == 0
    assert shown.endswith("good     for ann, to subscribe to room:a\n")
    sockade("token", "revoke", "--jti", claims["jti"])
    status, shown, _ = sockade("token", "inspect", stdin=out)
    assert status == 1
    assert "refused  revoked" in shown
    assert json.loads(sockade("token", "new", "ann", "--channel", "room:a", "--json")[1])["channel"] == "room:a"
    assert "sessions ended: 0" in sockade("user", "disable", "ann")[1]


@pytest.mark.parametrize(
    "command",
    [
        ("token", "revoke", "--all"),
        ("token", "revoke", "--user", "ann"),
        ("token", "revoke", "--jti", "JTI"),
        ("user", "disable", "ann"),
    ],
)
def test_a_token_that_was_taken_back_is_not_good(sockade: Sockade, command: tuple[str, ...]) -> None:
    add(sockade)
    token = sockade("token", "new", "ann")[1]
    jti = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))["jti"]
    assert sockade(*(jti if word == "JTI" else word for word in command))[0] == 0
    status, out, _ = sockade("token", "inspect", stdin=token)
    assert status == 1
    assert "refused  revoked" in out


def test_a_name_that_is_nobody_s_is_revoked_and_told(sockade: Sockade) -> None:
    add(sockade)
    status, out, err = sockade("token", "revoke", "--user", "anne")
    assert (status, out) == (0, "Revoked.\n")
    assert "there is no user anne here" in err
    for known in ("ANN", "corp:anne"):
        assert sockade("token", "revoke", "--user", known) == (0, "Revoked.\n", "")


def test_a_token_of_another_server_is_refused(sockade: Sockade) -> None:
    add(sockade, "ann", "--data-dir", "one")
    token = sockade("token", "new", "ann", "--data-dir", "one")[1]
    status, out, _ = sockade("token", "inspect", "--data-dir", "two", stdin=token)
    assert status == 1
    assert "refused  token_invalid" in out


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "e30.e30", "W10.W10.x", "e30.gICA.x", "W1tb" * 3_000 + ".e30.x"])
def test_what_is_no_token_is_usage(sockade: Sockade, text: str) -> None:
    status, _, err = sockade("token", "inspect", stdin=text)
    assert status == 2
    assert "not a JSON Web Token" in err


def test_a_time_that_is_none_does_not_stop_the_inspection(sockade: Sockade) -> None:
    status, out, _ = sockade("token", "inspect", "e30.eyJleHAiOjFlOTl9.x")  # {}.{"exp":1e99}
    assert status == 1
    assert "out of range" in out


def test_a_data_directory_that_others_can_read_is_refused(sockade: Sockade) -> None:
    os.mkdir("data", 0o755)
    status, _, err = sockade("user", "list", "--data-dir", "data")
    assert status == 3
    assert "chmod 700 data" in err


def test_users_can_be_added_where_the_server_would_not_start(sockade: Sockade) -> None:
    Path("sockade.toml").write_text("[server]\nhost = '0.0.0.0'\n")
    add(sockade)
