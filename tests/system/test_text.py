"""Natural order, texts that UTF-8 can hold, and aligned columns."""

import unicodedata
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fastcell.system.text import (
    align_columns,
    join_lines,
    largest_rows,
    list_names,
    natural_key,
    natural_sorted,
    printable,
    printable_lines,
    storable,
)


def test_the_largest_rows_keep_their_order():
    assert largest_rows([1, 9, 3, 9, 2], most=3) == ([1, 3], [0, 2, 4])
    assert largest_rows([1, 9, 3], most=3) == ([0, 1, 2], [])
    assert largest_rows([]) == ([], [])


def test_names_are_listed_up_to_a_number():
    names = [f"c{number}" for number in range(1_006)]
    assert list_names(names) == "c0, c1, c2, c3, c4, c5 and 1,000 more"
    assert list_names(names[:6]) == "c0, c1, c2, c3, c4, c5"
    assert list_names([], 2) == ""


@given(st.text(st.characters()))
@settings(max_examples=50)
def test_storable_is_utf8(text):
    stored = storable(text)
    stored.encode("utf-8")
    if not any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        assert stored == text


def test_file_names_that_are_no_text():
    assert storable("a\udcff.jpg") == "a\\udcff.jpg"
    assert storable(None) is None


def test_natural_order():
    assert natural_sorted(["b10", "b9", "A", "a", "b09", "10", "9"]) == ["9", "10", "A", "a", "b09", "b9", "b10"]


def test_natural_order_is_total_and_keeps_duplicates():
    names = ["Cell 2", "cell 10", "cell 2", "a1", "a01", "", "2", "cell 2"]
    in_order = ["", "2", "a01", "a1", "Cell 2", "cell 2", "cell 2", "cell 10"]
    assert natural_sorted(names) == natural_sorted(names[::-1]) == in_order
    assert len({str(natural_key(name)) for name in set(names)}) == len(set(names))


def test_columns_are_aligned():
    assert align_columns([["class", "cells"], ["MCF7", "9"], ["a", "1,000"]]) == [
        "class  cells",
        "MCF7       9",
        "a      1,000",
    ]
    assert align_columns([["a", ""]]) == ["a"]  # no spaces at the end of a line
    assert align_columns([["a\n", "b"], ["c", "d"]]) == ["a\\n  b", "c    d"]


@given(st.text(st.characters()))
@settings(max_examples=200)
def test_no_character_that_a_terminal_obeys_is_left(text):
    shown = printable(text)
    shown.encode("utf-8")  # no surrogate
    assert all(letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in shown)
    assert "\n" not in join_lines([text])
    assert printable_lines(text).count("\n") == text.count("\n")
    if text.isprintable():
        assert shown == text


def test_what_is_escaped_and_how():
    assert printable("\x1b[31m\x07\x9b\r\n\t\x7f") == r"\x1b[31m\x07\x9b\r\n\t\x7f"
    assert printable("a\u202eb\u2066\u200b\ufeff\u2028\udcff\U000e0041") == (
        r"a\u202eb\u2066\u200b\ufeff\u2028\udcff\U000e0041"
    )
    assert printable("T-Zelle 5 µm\u00a0細胞 é🧬") == "T-Zelle 5 µm\u00a0細胞 é🧬"
    assert printable(Path("a\nb")) == r"a\nb"
    assert join_lines(["a\nb", "c"]) == "a\\nb\nc"
