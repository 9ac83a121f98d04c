import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockade.identity.names import folded, parse_name


@pytest.mark.parametrize("name", ["ana", "Ana.B-c_9", "Zoë", "Ольга", "田中", "a" * 64, "नमस्ते", "1"])
def test_letters_digits_and_three_signs_make_a_name(name: str) -> None:
    assert parse_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a" * 65, "a b", "a\nb", "a\u200bb", "a\u202eb", "a\u2066b", "a\ufeffb", "a\x00", "<b>", "a/b", "-a", ".a",
     "_a", "a@b", "\u0301a", "\u3164", "a\ufe0f", "a\u034fb", "a" + "\u0316" * 3, "a\U000e0101", "😀", "a\ud800",
     "a" * 5000],
)  # fmt: skip
def test_what_cannot_be_seen_or_told_apart_is_no_name(name: str) -> None:
    assert parse_name(name) is None


def test_a_name_is_kept_composed() -> None:
    assert parse_name("Zoe\u0308") == "Zoë"


@pytest.mark.parametrize(("one", "other"), [("Ana", "aNA"), ("straße", "STRASSE"), ("ａｎａ", "ana"), ("ﬁn", "fin")])
def test_names_that_look_alike_by_case_or_width_are_the_same(one: str, other: str) -> None:
    assert folded(one) == folded(other)


def test_different_names_stay_different() -> None:
    assert folded("ana") != folded("anna")


@given(st.text(max_size=80))
def test_any_text_is_judged_and_a_name_stays_a_name(text: str) -> None:
    name = parse_name(text)
    if name is not None:
        assert parse_name(name) == name
        assert folded(folded(name)) == folded(name)
