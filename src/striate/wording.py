"""How numbers, shapes and names of layers are written; free of torch."""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from striate.errors import one_line
from striate.records import Finding

_SCALES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def scaled(count: float) -> str:
    """A count in three digits with its decimal prefix: `4.09 G`, `268 k`, `12`."""
    return _scaled(count, _SCALES).strip()


def size_in_bytes(count: int) -> str:
    """Bytes in three digits with their binary unit: `97.5 MiB`, `512 bytes`."""
    return _scaled(count, _BYTES) if count >= 1024 else f"{count} byte{'s' * (count != 1)}"


def _scaled(count: float, scales: Sequence[tuple[int, str]]) -> str:
    for index, (size, letter) in enumerate(scales):
        # 999,999 becomes 1.00 M, not 1000 k.
        if count >= 0.9995 * size:
            value = count / size
            # 1,010 KiB would have four digits: 0.99 MiB.
            if value >= 999.5 and index:
                return f"{count / scales[index - 1][0]:.2f} {scales[index - 1][1]}"
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {letter}"
    return f"{count:g} "


def percent_of(part: float, whole: float) -> str:
    """A share in whole percent; `<1` and `>99` where rounding would give 0 or 100; a dash for 0."""
    if not whole or not part:
        return "–"
    share = 100 * part / whole
    return "<1" if share < 0.5 else ">99" if part < whole and share > 99.5 else f"{share:.0f}"


def show_sizes(sizes: Sequence[int | float]) -> str:
    """Sizes along the axes of a map: `3` for (3, 3), `3×5` for (3, 5), a dash for ()."""
    if not sizes:
        return "–"
    written = [f"{size:g}" for size in sizes]
    return written[0] if len(set(written)) == 1 else "×".join(written)


def show_shape(shape: Sequence[int]) -> str:
    """A shape without its batch: `64×56×56`; a dash for ()."""
    return "×".join(map(str, shape)) or "–"


def shorten_middle(name: str, letters: int) -> str:
    """The name in at most `letters` letters, without its middle: both ends of a path tell the most."""
    name = one_line(name)
    if len(name) <= letters:
        return name
    tail = letters // 2
    return f"{name[: letters - tail - 1]}…{name[len(name) - tail :]}"


def shorten_path(path: str, letters: int) -> str:
    """A module's path in at most `letters` letters; each part loses its middle, so that numbers stay."""
    parts = one_line(path).split(".")
    for most in range(max(map(len, parts)), 3, -1):
        shorter = ".".join(shorten_middle(part, most) for part in parts)
        if len(shorter) <= letters:
            return shorter
    return shorten_middle(path, letters)


def several(count: int, one: str, many: str | None = None) -> str:
    """`1 layer`, `2 layers`, `1,024 layers`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


_SINGULAR = {"are": "is", "have": "has", "were": "was"}


def several_of(count: int, total: int, one: str, verb: str, many: str | None = None) -> str:
    """`2 of 40 layers are frozen`, `1 of 40 layers is frozen`. `verb`: the plural, perhaps with what follows it."""
    first, space, rest = verb.partition(" ")
    first = first if count != 1 else _SINGULAR.get(first, f"{first}s")
    return f"{count:,} of {several(total, one, many)} {first}{space}{rest}"


def type_of(value: object) -> str:
    """`an int`, `a list`: the type of a value, with its article."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `3rd`, `4th`, `11th`, `21st`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def python_name(path: str) -> str:
    """A module's or parameter's path in Python: `features[3].conv` for features.3.conv, `model[0]` for 0."""
    written = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split(".")).removeprefix(".")
    return f"model{written}" if written.startswith("[") else written


def listed(names: Sequence[str], most: int = 3) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b, c and 5 more`."""
    shown = list(names[:most]) if len(names) > most else list(names)
    last = f"{len(names) - most} more" if len(names) > most else shown.pop() if shown else ""
    return f"{', '.join(shown)} and {last}" if shown else last


def listed_names(paths: Sequence[str]) -> str:
    """Paths of modules or parameters in Python's form, each once: `model[0] and features[3]`, `relu (2 calls)`."""
    counts = Counter(map(python_name, paths))
    return listed([name if count == 1 else f"{name} ({several(count, 'call')})" for name, count in counts.items()])


def finding_text(finding: Finding, width: int) -> str:
    """A finding as one paragraph in lines of at most `width` letters."""
    return filled(f"{finding.severity} {finding.code}: {finding.measured}. {finding.why} {finding.remedy}", width)


_COMMAND = re.compile(r"(?<=: )striate [a-z]\S* .*?(?=; |\. |$)")
"""A command at the end of a sentence, which would not work when pasted with a line break."""


def filled(text: str, width: int) -> str:
    """Lines of at most `width` letters, all but the first indented; paths, commands, and a number and its `%`, are not
    broken."""
    whole = _COMMAND.sub(lambda found: found[0].replace(" ", "\u00a0"), text).replace(" %", "\u00a0%")
    lines = textwrap.fill(whole, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return lines.replace("\u00a0", " ")


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def number(value: Any, digits: int = 4) -> str:
    """A number for reading: grouped by thousands, fractions to four digits, large numbers in full (`1,061,728`, not
    `1.062e+06`); a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, (bool, str)):
        return str(value)
    if isinstance(value, Integral):
        return f"{value:,}".replace("-", "−")
    value = float(value)
    whole = value.is_integer() or abs(value) >= 10 ** (digits - 1) - 0.05
    return formatted(value, ",.0f" if whole and abs(value) < 1e15 else f".{digits}g")


def formatted(value: float, form: str) -> str:
    """The value in a format such as `.2f` or `+.3g`, with a minus sign, which is left out where it rounds to 0."""
    sign = form[:1] if form.startswith("+") else ""
    text = format(float(value), f"{sign}z{form.removeprefix(sign)}")
    return f"−{text[1:]}" if text.startswith("-") else text


def short_number(value: float) -> str:
    """A number of passes or points in two digits or up to one decimal: `12`, `9.6`, `0.25`, `0.0024`."""
    digits = 0 if value == int(value) or value >= 100 else 1 if value >= 1 else 2 - math.ceil(math.log10(value))
    return f"{value:,.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share from 0 to 1 in percent, with `digits` decimals: `97.8 %`; a dash for None."""
    return "–" if share is None else f"{formatted(100 * share, f'.{digits}f')} %"


def probability_text(share: float) -> str:
    """A probability from 0 to 1 in percent: `93.1 %`; only exactly 0 and 1 are written as 0.0 % and 100.0 %."""
    text = percent(share)
    if (text == "100.0 %" and share < 1) or (text == "0.0 %" and share > 0):
        return "> 99.9 %" if share > 0.5 else "< 0.1 %"
    return text
