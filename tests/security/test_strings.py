"""What is typed, or copied from a stranger: layer strings and kernels of any length end in one short error at once."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from quick import few_quick

LAYERS = {
    "megabyte": ("relu " * 200_000, "at most 20000"),
    "repetitions": ("1000000000*[relu] fc(10)", "numbers up to 1000000"),
    "nested-repetitions": ("1000000*[" * 30 + "relu" + "]" * 30, "after expansion"),
    "brackets": ("[" * 10_000, "expected"),
    "deep-brackets": ("2*[" * 4_000 + "relu" + "]" * 4_000, "at most 32"),
    "residuals": ("res[" * 40 + "relu" + "]" * 40, "at most 32"),
    "digits": (f"conv({'9' * 15_000},3)", "numbers up to 1000000"),
    "exponent": ("dropout(1e999999999)", "dropout"),
    "minus": (f"conv(-{'1' * 10_000},3)", "conv"),
    "parentheses": ("fc" + "(" * 10_000, "expected"),
    "quotes": ("conv(3,3,pad='" + "a" * 10_000, "quotation mark"),
    "zero-byte": ("fc(10)\0", "the character"),
    "escape": ("fc(10) \x1b[2J", "the character"),
    "kernel": ("conv(1000000,1000000x1000000) fc(10)", "expected"),
    "parameters": ("900*[fc(1000000)] fc(10)", "expected"),
    "sizes": ("conv(8," + "x".join(["3"] * 5000) + ")", "expected"),
    "python": ("__import__('os').system('touch ran')", "expected"),
}


VERBS = [("summary", name) for name in LAYERS] + [("train", name) for name in LAYERS]
QUICK = [*VERBS[: len(LAYERS)], ("train", "megabyte"), ("train", "parameters")]


@pytest.mark.slow
@pytest.mark.each_nth(4)
@pytest.mark.parametrize(("verb", "name"), few_quick(VERBS, QUICK, unpack=True))
def test_an_absurd_layer_string_is_refused_in_few_words(striate, name, verb) -> None:
    text, words = LAYERS[name]
    command = ("summary", text, "--input", "1x28x28") if verb == "summary" else ("train", "mnist5k", "--model", text)
    told = striate(*command)
    told.refused(words)
    assert len(told.err) < 3000
    assert "\x1b" not in told.err
    assert not Path("ran").exists()
    assert not Path("runs").exists()


def test_what_is_too_large_to_be_built_is_counted(striate) -> None:
    told = striate("summary", "fc(40000)", "--input", "1x200x200", "--json")
    assert (told.code, json.loads(told.out)["params"]) == (0, 40_000 * 40_000 + 40_000)
    striate("train", "mnist5k", "--model", "fc(1000000) fc(1000) fc(10)").refused("striate summary")


def fractions(count: int) -> str:
    """Numbers whose least common denominator has some hundred thousand digits."""
    draw = random.Random(0)
    return " ".join(f"1/{draw.randrange(10**29, 10**30)}" for _ in range(count))


KERNELS = {
    "million": ("1 " * 1_000_000, "1,000,000"),
    "million-rows": ("1;" * 1_000_000, "1,000,000"),
    "many": ("1 " * 400_000, "400,000 numbers"),
    "many-rows": ("1;" * 400_000, "400,000 numbers"),
    "digits": ("9" * 1_000_000, "expected"),
    "exponent": ("1e999999999", "expected"),
    "blanks": ("1" + " " * 500_000 + "/" + " " * 500_000 + "x", "expected"),
    "slashes": ("/ " * 500_000, "expected"),
    "fractions": ("; ".join([fractions(99)] * 99), ""),
    "powers": ("; ".join([" ".join(f"1e-{i + k}" for i in range(99)) for k in range(0, 891, 9)]), ""),
    "minus": ("-" * 500_000, "expected"),
    "not-finite": ("nan", "finite"),
}


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("source", few_quick(["text", "file"], ["text"]))
def test_an_absurd_kernel_is_refused_or_used_at_once(striate, name, source) -> None:
    from PIL import Image

    Image.new("L", (5, 5)).save("in.png")
    text, words = KERNELS[name]
    Path("kernel.txt").write_text(text.replace(";", "\n"))
    told = striate("filter", "in.png", "out.png", "--kernel", text if source == "text" else "kernel.txt")
    assert len(told.err) < 2000
    if told.code == 0:
        assert words == ""
        return
    told.refused()
    assert not Path("out.png").exists()


def test_a_kernel_that_is_no_file(striate) -> None:
    from PIL import Image

    Image.new("L", (5, 5)).save("in.png")
    with Path("long.txt").open("wb") as file:
        file.truncate(1 << 40)
    striate("filter", "in.png", "out.png", "--kernel", "long.txt").refused("1,099,511,627,776 bytes")
    striate("filter", "in.png", "out.png", "--kernel", "/dev/zero").refused("--kernel")
