"""JSON as every browser and program reads it."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from striate.runs.files import finite


class FiniteJSON(JSONResponse):
    """JSON in which what is not finite is null."""

    def render(self, content: Any) -> bytes:
        """The document's bytes."""
        try:
            return super().render(content)
        except ValueError:  # what is not finite is rare, and looking for it takes longer than the document
            return super().render(finite(content))
