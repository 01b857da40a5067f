"""What the check character promises, and what escaping and normalising do to any text."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from medbill.deid.vault import ALPHABET, BODY, check_character, escape, is_token, normalised, token_kind, unescape

bodies = st.text(ALPHABET, min_size=BODY, max_size=BODY)
kinds = st.sampled_from(["CLAIM", "PAYER_CLAIM", "MRN"])
places = st.integers(0, BODY)


@given(kinds, bodies)
def test_a_token_is_a_token_of_its_kind(kind: str, body: str) -> None:
    token = f"[{kind}_{body}{check_character(body)}]"
    assert is_token(token)
    assert token_kind(token) == kind
    assert not is_token(token[:-1])
    assert not is_token(f"{token} ")
    assert not is_token(token.lower())


@given(bodies, places, st.sampled_from(ALPHABET))
def test_any_single_changed_character_is_noticed(body: str, place: int, other: str) -> None:
    good = body + check_character(body)
    changed = good[:place] + other + good[place + 1 :]
    assert is_token(f"[CLAIM_{changed}]") == (changed == good)


@given(bodies, places, places)
def test_any_two_exchanged_characters_are_noticed(body: str, a: int, b: int) -> None:
    good = body + check_character(body)
    letters = list(good)
    letters[a], letters[b] = letters[b], letters[a]
    assert is_token(f"[CLAIM_{''.join(letters)}]") == (letters == list(good))


@given(bodies, places)
def test_a_lost_or_added_character_is_noticed(body: str, place: int) -> None:
    good = body + check_character(body)
    assert not is_token(f"[CLAIM_{good[:place]}{good[place + 1 :]}]")
    assert not is_token(f"[CLAIM_{good[:place]}0{good[place:]}]")


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts, kinds, bodies, texts)
def test_escaped_text_holds_no_token_and_comes_back(before: str, kind: str, body: str, after: str) -> None:
    token = f"[{kind}_{body}{check_character(body)}]"
    text = before + token + after
    escaped = escape(pa.array([text]))[0].as_py()
    assert token not in escaped
    assert unescape(escaped) == text
    again = escape(pa.array([escaped]))[0].as_py()
    assert unescape(again) == escaped


@given(texts)
def test_normalising_is_blind_to_case_and_white_space(text: str) -> None:
    form = normalised(text)
    assert normalised(f"  {text}\t\n") == form
    assert form == form.strip()
    if text.isascii():
        assert normalised(form) == form
        assert normalised(text.upper()) == form
