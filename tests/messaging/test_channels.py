"""Declarations: from code and from settings, which name fits which, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from sockade.errors import UsageError
from sockade.guard.identity import Identity
from sockade.messaging.channels import Channels, compiled, configured
from sockade.settings import ChannelSettings

if TYPE_CHECKING:
    from pathlib import Path

ADA, BOB = Identity("ada", scopes=frozenset({"room-a"})), Identity("bob", role="guest")


def channels(**tables: ChannelSettings) -> Channels:
    found = Channels()
    for name, table in tables.items():
        found.add(configured(name, table))
    return found


def test_a_table_says_who_may_what() -> None:
    room = ChannelSettings(
        pattern="room:{name}",
        subscribe=("scope:room-{name}", "role:guest"),
        publish=("scope:room-{name}",),
        see_history=("role:guest",),
        history_size=5,
        history_seconds=60,
        durability="memory",
    )
    match = channels(room=room).find("room:a")
    assert match is not None
    assert [match.may_subscribe(one) for one in (ADA, BOB)] == [True, True]
    assert [match.may_publish(one) for one in (ADA, BOB)] == [True, False]
    assert [match.may_see_history(one) for one in (ADA, BOB)] == [False, True]
    assert [match.may_see_presence(one) for one in (ADA, BOB)] == [True, True]
    assert match.channel.keep is not None
    assert (match.channel.keep.size, match.channel.keep.durable) == (5, False)
    other = channels(room=room).find("room:b")
    assert other is not None
    assert not other.may_subscribe(ADA)


def test_without_a_pattern_the_name_is_the_channel() -> None:
    found = channels(news=ChannelSettings())
    assert found.find("news") is not None
    assert found.find("news2") is None
    assert found.find("other") is None


def test_a_personal_channel_is_its_users_alone_whatever_they_are_called() -> None:
    found = channels(mine=ChannelSettings(pattern="mine:{user}", personal=True))
    match = found.find("mine:corp:ada")
    assert match is not None
    assert match.may_subscribe(Identity("corp:ada"))
    assert not match.may_subscribe(ADA)
    assert [one.name for one in found.personal_of("bob")] == ["mine:bob"]


def test_the_schema_of_a_table_is_read(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "required": ["text"]}')
    match = channels(room=ChannelSettings(schema_file=schema)).find("room")
    assert match is not None
    assert match.channel.schema is not None
    assert match.channel.schema.accepts({"text": 1})
    assert not match.channel.schema.accepts({})
    with pytest.raises(UsageError, match="cannot be read"):
        configured("room", ChannelSettings(schema_file=tmp_path / "missing.json"))


@pytest.mark.parametrize("pattern", ["", "a{", "a}", "{a}{a}", "room:{Name}", "{}"])
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="malformed"):
        compiled(pattern)


@pytest.mark.parametrize("right", ["Everyone", "admin", "role:", "role:Admin", "scope:", "scope:a b", "scope:{Name}"])
def test_what_is_not_a_right_is_not_a_setting(right: str) -> None:
    with pytest.raises(ValidationError):
        ChannelSettings(subscribe=(right,))
