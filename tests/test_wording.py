"""How numbers, shapes and names are written."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import striate
from quick import parsed_file
from striate.wording import (
    filled,
    formatted,
    listed,
    listed_names,
    number,
    one_line,
    percent,
    percent_of,
    probability_text,
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


def test_shares_in_percent() -> None:
    assert [percent(0.9766), percent(0.9766, 0), percent(1, 2), percent(None)] == ["97.7 %", "98 %", "100.00 %", "–"]
    assert filled("an accuracy of 97.7 % on test", 20) == "an accuracy of\n  97.7 % on test"


def test_only_a_certain_probability_is_written_as_one() -> None:
    texts = [probability_text(share) for share in (0.0, 0.0004, 0.931, 0.9996, 1.0)]
    assert texts == ["0.0 %", "< 0.1 %", "93.1 %", "> 99.9 %", "100.0 %"]


def test_numbers_have_a_minus_sign_unless_they_round_to_zero() -> None:
    given = ((-0.004, ".2f"), (-0.004, "+.2f"), (-0.12, ".2f"), (0.5, "+g"))
    assert [formatted(value, form) for value, form in given] == ["0.00", "+0.00", "−0.12", "+0.5"]
    assert [number(value) for value in (-0.0, -3, -1234.0, -1e-9)] == ["0", "−3", "−1,234", "−1e-09"]
    assert percent(-0.0001) == "0.0 %"


def test_a_command_is_pasted_as_it_is_printed() -> None:
    command = "striate train --config runs/first/config.yaml --epochs 10"
    text = filled(f"It hardly trained. Train for longer: {command}; or see the curves.", 40)
    assert any(command in line for line in text.splitlines())
    assert max(map(len, text.splitlines())) < 70


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


def test_calls_of_one_function_are_listed_once() -> None:
    assert listed_names(["0", "features.3"]) == "model[0] and features[3]"
    assert listed_names(["relu", "sigmoid", "relu"]) == "relu (2 calls) and sigmoid"


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


NOUNS = (
    "arguments axes batches bytes channels characters checkpoints classes columns copies cores entries epochs errors "
    "features fields figures files filters findings folds folders frames groups images inputs labels layers lines maps "
    "masks modules names networks numbers outputs parameters passes patches pictures photographs positions predictions "
    "processes repeats rows runs samples seeds sets shards sites sizes speakers splits steps tables targets tensors "
    "threads trials units values views warnings weights windows"
)
COUNTED = re.compile(rf"^ (?:(?!(?:and|for|from|in|of|on|or|to|with) )[a-z\-]+ )??({NOUNS.replace(' ', '|')})\b")
NUMBERS = {"epochs", "folds", "images", "n", "parameters", "samples", "seeds", "steps", "total", "trials"}


def counts(value: ast.expr, form: str) -> bool:
    """Whether a part of an f-string is surely a whole number that can be 1: it is formatted, computed or named as one,
    and is no constant."""
    name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""
    call = value.func if isinstance(value, ast.Call) else None
    called = call.id if isinstance(call, ast.Name) else call.attr if isinstance(call, ast.Attribute) else ""
    number = form in (",", "d", ",d") or (not form and (called in ("len", "int", "sum", "numel") or name in NUMBERS))
    return number and not re.fullmatch(r"_*[A-Z][A-Z_0-9]*|limit", name)


def bare_plurals(tree: ast.Module) -> list[str]:
    """Counts with a plural behind them that nothing turns into a singular."""
    found = []
    for text in (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)):
        for one, after in pairwise(text.values):
            if isinstance(one, ast.FormattedValue) and isinstance(after, ast.Constant):
                form = "".join(str(part.value) for part in getattr(one.format_spec, "values", ()))
                if COUNTED.match(after.value) and counts(one.value, form):
                    found.append(f"{{{ast.unparse(one.value)}}}{after.value[:30]}")
    return found


def test_messages_count_through_the_helper() -> None:
    planted = ast.parse('f"{n:,} images"; f"{len(x)} training steps"; f"of {run.steps} samples"')
    assert bare_plurals(planted) == [
        "{n} images", "{len(x)} training steps", "{run.steps} samples",
    ]  # fmt: skip
    fine = 'f"{name} images"; several(n, "image"); f"at most {MOST:,} files"; f"{n:,} of images"'
    assert not bare_plurals(ast.parse(fine))
    source = Path(striate.__file__).parent
    found = {
        str(path.relative_to(source)): plurals
        for path in sorted(source.rglob("*.py"))
        if (plurals := bare_plurals(parsed_file(path)))
    }
    assert not found, "use striate.wording.several: 1 image, 2 images"
