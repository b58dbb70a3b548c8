"""JSON as every browser, program and terminal reads it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from starlette.responses import JSONResponse

from striate.runs.files import finite, visible_json

_text = partial(json.dumps, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class FiniteJSON(JSONResponse):
    """JSON in which what is not finite is null, and what no terminal should be given is `\\u…`."""

    def render(self, content: Any) -> bytes:
        """The document's bytes."""
        try:
            text = _text(content)
        except ValueError:  # what is not finite is rare, and looking for it takes longer than the document
            text = _text(finite(content))
        return visible_json(text).encode()
