"""Codes of ±1 for the output units of LeNet-5: stylized digits of 7×12 pixels.

The paper shows such bitmaps for all of ASCII in its figure 3. These ten were drawn anew for this project in the same
format, since the paper does not print its pixels as numbers; they are not the originals.
"""

from __future__ import annotations

import numpy as np

ROWS, COLUMNS = 12, 7

_DIGITS = """
    .......  .......  .......  .......  .......  .......  .......  .......  .......  .......
    ..###..  ...##..  .#####.  .#####.  .....##  #######  ..####.  #######  .#####.  .#####.
    .##.##.  ..###..  ##...##  ##...##  ....###  ##.....  .##....  .....##  ##...##  ##...##
    ##...##  .####..  .....##  .....##  ...####  ##.....  ##.....  .....##  ##...##  ##...##
    ##...##  ...##..  .....##  .....##  ..##.##  ######.  ##.....  ....##.  ##...##  ##...##
    ##...##  ...##..  ....##.  ..####.  .##..##  .....##  ######.  ....##.  .#####.  .######
    ##...##  ...##..  ...##..  .....##  ##...##  .....##  ##...##  ...##..  ##...##  .....##
    ##...##  ...##..  ..##...  .....##  #######  .....##  ##...##  ...##..  ##...##  .....##
    .##.##.  ...##..  .##....  ##...##  .....##  ##...##  ##...##  ..##...  ##...##  ....##.
    ..###..  .######  #######  .#####.  .....##  .#####.  .#####.  ..##...  .#####.  .####..
    .......  .......  .......  .......  .......  .......  .......  .......  .......  .......
    .......  .......  .......  .......  .......  .......  .......  .......  .......  .......
    """


def output_codes(outputs: int) -> list[list[float]]:
    """One code of 84 numbers, +1 or −1, for each of `outputs` classes.

    For ten classes the digits above, row by row, ink as +1. For any other number, codes of independent coins, always
    the same ones: two of them differ in 42 ± 5 places.
    """
    if outputs == 10:
        rows = [line.split() for line in _DIGITS.split("\n") if line.strip()]
        return [[1.0 if ink == "#" else -1.0 for row in rows for ink in row[digit]] for digit in range(10)]
    # The legacy generator, because its stream is frozen for all versions of NumPy.
    coins = np.random.RandomState(1998).randint(2, size=(outputs, ROWS * COLUMNS))
    codes: list[list[float]] = (2.0 * coins - 1).tolist()
    return codes
