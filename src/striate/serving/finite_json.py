"""JSON as every browser, program and terminal reads it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from starlette.responses import JSONResponse

from striate.runs.files import finite, visible_json

_text = partial(json.dumps, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class FiniteJSON(JSONResponse):
    """JSON in which NaN and Inf are null, and control characters are `\\u…`."""

    def render(self, content: Any) -> bytes:
        """The document's bytes."""
        try:
            text = _text(content)
        except ValueError:  # NaN and Inf are rare, and looking for them takes longer than writing the document
            text = _text(finite(content))
        return visible_json(text).encode()
