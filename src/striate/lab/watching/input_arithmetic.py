"""How a byte of the image becomes a number that the network gets."""

from __future__ import annotations

from striate.lab.watching.kept_passes import Watched
from striate.lab.watching.records import Line, Seen, Term, UnitArithmetic, in_sum, written


def explain_input(watched: Watched, unit: tuple[int, int, int]) -> tuple[UnitArithmetic, Seen]:
    """The normalized number at (channel, row, column), and the place it comes from. It has to be on the image."""
    normalization = watched.subject.normalization
    byte = int(watched.raw[unit])
    mean, spread = normalization.mean[unit[0]], normalization.std[unit[0]]
    lines = (
        Line("minus the mean", f"{byte} − {in_sum(mean)}", byte - mean),
        Line("over the spread", f"{written(byte - mean)} / {written(spread)}", (byte - mean) / spread),
    )
    words = "A byte of the image, brought to the scale that the network was made for."
    terms = (Term("byte of the image", byte, None, byte),)
    output = float(watched.x[(0, *unit)])
    found = UnitArithmetic("function", words, output, lines[-1].value, terms=terms, lines=lines)
    return found, Seen((unit[1], unit[1]), (unit[2], unit[2]))
