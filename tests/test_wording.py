"""How numbers, shapes and names are written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.wording import (
    listed,
    one_line,
    percent_of,
    scaled,
    several,
    shorten_middle,
    shorten_path,
    show_sizes,
    size_in_bytes,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (12, "12"), (999, "999"), (1000, "1.00 k"), (9_996, "10.0 k"), (99_960, "100 k"), (267_960, "268 k"),
     (999_499, "999 k"), (999_999, "1.00 M"), (4_089_184_256, "4.09 G"), (8_003_072_000_000, "8.00 T")],
)  # fmt: skip
def test_counts_have_three_digits(count: int, text: str) -> None:
    assert scaled(count) == text


@given(st.integers(1000, 10**15 - 10**12))
def test_scaled_counts_are_right_to_half_a_percent(count: int) -> None:
    number, letter = scaled(count).split()
    assert re.fullmatch(r"\d\.\d\d|\d\d\.\d|\d\d\d", number)
    assert float(number) * {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[letter] == pytest.approx(count, rel=0.005)


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "1 byte"), (512, "512 bytes"), (1024, "1.00 KiB"), (1_034_240, "0.99 MiB"), (46_758_048, "44.6 MiB")],
)
def test_bytes(count: int, text: str) -> None:
    assert size_in_bytes(count) == text


@pytest.mark.parametrize(
    ("part", "text"), [(0, "–"), (1, "<1"), (4, "<1"), (6, "1"), (500, "50"), (994, "99"), (999, ">99"), (1000, "100")]
)
def test_shares_never_pretend(part: int, text: str) -> None:
    assert percent_of(part, 1000) == text
    assert percent_of(part, 0) == "–"


def test_sizes() -> None:
    assert [show_sizes(s) for s in ((), (3, 3), (3, 5), (0.5, 0.5))] == ["–", "3", "3×5", "0.5"]


@given(st.text(st.sampled_from("abc.0123"), min_size=1, max_size=60), st.integers(8, 40))
def test_shortened_names_fit(name: str, letters: int) -> None:
    for shorter in (shorten_middle(name, letters), shorten_path(name, letters)):
        assert len(shorter) <= letters
        assert shorter == name or "…" in shorter


@given(st.text())
def test_a_name_is_one_printable_line(name: str) -> None:
    assert one_line(name).isprintable()
    assert one_line(one_line(name)) == one_line(name)
    assert not name.isprintable() or one_line(name) == name


def test_line_ends_and_commands_to_a_terminal_are_shown() -> None:
    assert one_line("a\nb\tc\x1b[31m 97\u00a0%") == r"a\nb\tc\x1b[31m 97 %"
    assert shorten_path("a\nb", 14) == shorten_middle("a\nb", 14) == r"a\nb"


def test_lists() -> None:
    assert [listed(list("abcde"[:n])) for n in (0, 1, 2, 3, 5)] == [
        "",
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and 2 more",
    ]
    assert (several(1, "layer"), several(2000, "layer"), several(2, "bias", "biases")) == (
        "1 layer", "2,000 layers", "2 biases"
    )  # fmt: skip
