"""A kernel as a user of the command line writes it: a name, a text of numbers, or a file of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Literal

from striate.errors import UsageError
from striate.layers.kernels import KERNELS, LONGEST_SIDE, Kernel, Words, check_form
from striate.records import Remedy, option_remedy
from striate.wording import several

EXAMPLE = '"0 -1 0; -1 5 -1; 0 -1 0"'
_EXAMPLE = option_remedy("kernel", EXAMPLE)
_NUMBER = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,3})?")
_NUMERIC_TEXT = re.compile(r"(?!\.{0,2}/)[\d\s.,;+\-eE/]*\d[\d\s.,;+\-eE/]*")
_DIVISOR = re.compile(r"(?:^|[\s;,])/\s*([^\s;,/]+)\s*$")
_LARGEST_FILE = 1_000_000
_MOST_BITS = 53  # exact in double precision, in which large kernels are computed
_MOST_DECIMALS = 15


@dataclass(frozen=True)
class ChosenKernel:
    """A kernel, and where it comes from."""

    kernel: Kernel
    """The kernel."""
    source: Literal["name", "file", "text"]
    """The kind of source."""
    words: str
    """The source in words: `the kernel named sharpen`."""


def choose_kernel(given: str) -> ChosenKernel:
    """The kernel that `given` means: a name of the table, else a text of numbers, else a file with one.

    Raises UsageError. `./name` means a file whose name is also that of a kernel, or a number.
    """
    text = given.strip()
    if text in KERNELS:
        hint = f" (for the file {text} in this folder: ./{text})" if _is_file(text) else ""
        return ChosenKernel(KERNELS[text], "name", f"the kernel named {text}{hint}")
    if not _NUMERIC_TEXT.fullmatch(text):
        if _is_file(text):
            kernel = _from_file(Path(text))
            return ChosenKernel(kernel, "file", f"the kernel in the file {text}{_rounding(kernel)}")
        if not re.search(r"[;,\s]", text):
            _refuse_unknown(given)
    kernel = parse_kernel(text)
    return ChosenKernel(kernel, "text", f"the given kernel{_rounding(kernel)}")


def _rounding(kernel: Kernel) -> str:
    return "" if kernel.decimals is None else f", rounded to {kernel.decimals} decimals"


def parse_kernel(text: str, where: str = "--kernel") -> Kernel:
    """A kernel from rows separated by `;` or line ends, with numbers separated by blanks or commas.

    A number is whole, a decimal or a fraction (`1/9`), and is exact (`kernel_from_rows`); `/16` at the end, after a
    blank, divides the whole kernel. `#` begins a comment. Raises UsageError.
    """
    if len(text) > _LARGEST_FILE:
        raise UsageError(where, several(len(text), "character"), f"at most {_LARGEST_FILE:,}", _EXAMPLE)
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    joined = "\n".join(filter(None, lines))
    found = _DIVISOR.search(joined)
    if found:
        joined = joined[: found.start()]
    rows = [row.strip() for line in joined.splitlines() for row in line.strip().removesuffix(";").split(";")]
    words = [[word for word in re.split(r"[\s,]+", row) if word] for row in rows]
    if (count := sum(map(len, words))) > LONGEST_SIDE**2:  # parsing fractions takes time
        expected = f"sides of at most {LONGEST_SIDE}"
        raise UsageError(where, several(count, "number"), expected, _EXAMPLE)
    numbers = [[_number(word, where, words) for word in row] for row in words]
    divisor = _number(found[1], where, words) if found else Fraction(1)
    if divisor == 0:
        raise UsageError(where, "a division by 0", "a divisor other than 0", _as_option(words))
    return kernel_from_rows([[number / divisor for number in row] for row in numbers], where)


def kernel_from_rows(rows: Sequence[Sequence[Fraction]], where: str = "--kernel") -> Kernel:
    """The kernel of these numbers as whole numbers over their least common denominator; numbers whose sums double
    precision cannot hold exactly are rounded to as many decimals as it can, large ones to whole numbers. Raises
    UsageError."""
    check_form(rows, where, _as_option)
    kernel = _over(_common_divisor(rows), rows)
    decimals = _MOST_DECIMALS
    while not _sums_exactly(kernel) and decimals >= 0:
        kernel, decimals = replace(_over(10**decimals, rows), decimals=decimals), decimals - 1
    if all(number.denominator == 1 for row in rows for number in row):  # rounding has changed nothing
        kernel = replace(kernel, decimals=None)
    same = next((known for known in KERNELS.values() if replace(known, name="") == kernel), None)
    return kernel if same is None else replace(kernel, name=same.name)


def _common_divisor(rows: Sequence[Sequence[Fraction]]) -> int:
    """The least common denominator, or any number that is too large for exact sums: that of thousands of fractions
    would have millions of digits."""
    divisor = 1
    for row in rows:
        for number in row:
            divisor = math.lcm(divisor, number.denominator)
            if divisor.bit_length() > _MOST_BITS:
                return divisor
    return divisor


def _over(divisor: int, rows: Sequence[Sequence[Fraction]]) -> Kernel:
    return Kernel(tuple(tuple(round(number * divisor) for number in row) for row in rows), divisor)


def _sums_exactly(kernel: Kernel) -> bool:
    return max(255 * kernel.reach, kernel.divisor).bit_length() <= _MOST_BITS


def _as_option(words: Words) -> Remedy:
    return option_remedy("kernel", '"{}"'.format("; ".join(" ".join(row) for row in words)))


def _number(word: str, where: str, words: Words = ()) -> Fraction:
    """Parse a number of the kernel `words`; for another word, the remedy is the kernel with 0 in its place."""
    upper, slash, lower = word.partition("/")
    parts = [upper, lower] if slash else [upper]
    if word.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise UsageError(where, word, "finite numbers", _zeroed(word, words))
    if not all(_NUMBER.fullmatch(part) for part in parts):
        expected = "numbers such as -1, 0.5 or 1/9, separated by spaces or commas, rows by ;"
        raise UsageError(where, repr(word[:40]), expected, _EXAMPLE)
    if slash and Fraction(lower) == 0:
        raise UsageError(where, word, "a fraction with a denominator other than 0", _zeroed(word, words))
    return Fraction(upper) / Fraction(lower) if slash else Fraction(upper)


def _zeroed(word: str, words: Words) -> Remedy:
    rest = [["0" if other == word else other for other in row] for row in words]
    mended = _as_option(rest)
    return mended if rest and len(mended) <= 200 else _EXAMPLE


def _from_file(path: Path) -> Kernel:
    where = f"--kernel, file {path}"
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(where, several(path.stat().st_size, "byte"), "a text file of numbers", _EXAMPLE)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else "bytes that are not text"
        raise UsageError(where, reason, "a text file of numbers, a row a line", _EXAMPLE) from None
    return parse_kernel(text, where)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or with a zero byte
        return False


def _refuse_unknown(given: str) -> None:
    near = get_close_matches(given.lower(), KERNELS, 1, 0.5) or ["sharpen"]
    path = "/" in given or "\\" in given or Path(given).suffix
    raise UsageError(
        "--kernel",
        repr(given[:80]) + (", no such file" if path else ""),
        f"a name ({', '.join(KERNELS)}), a file, or numbers such as {EXAMPLE}",
        option_remedy("kernel", near[0]),
    )
