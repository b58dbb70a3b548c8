"""Rows of numbers."""

from __future__ import annotations

from typing import ClassVar

from striate.data.media.medium import Medium


class Tables(Medium):
    """A row of a table: (F,) float32 features, whose order means nothing."""

    name: ClassVar[str] = "table"
    a: ClassVar[str] = "a table"
    many: ClassVar[str] = "rows"
    values: ClassVar[str] = "features"
    flat: ClassVar[bool] = True
