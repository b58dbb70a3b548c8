"""Which networks a page may name: layer strings, the zoo, and the run that the lab was opened with; never a path."""

from __future__ import annotations

import re

from striate.errors import ModelError
from striate.lab.workbench import Lab
from striate.models.from_file import names_file
from striate.models.from_run import names_run
from striate.models.input_shape import read_input_shape
from striate.models.layer_strings.words import WORDS
from striate.models.registry import MODELS
from striate.models.unknown_model import means_path

RUN = "run"
"""Name of the run's network."""
LONGEST = 20_000
"""Largest number of letters of a layer string."""


def network_name(lab: Lab, text: str) -> str:
    """The network that `text` of a page names, for the rest of the program: `run` becomes the run's path.

    Raises ModelError for a path, so that a page can neither run code nor open other files.
    """
    text = text.strip()
    if text == RUN and lab.run is not None:
        return str(lab.run)
    if not text:
        raise ModelError(
            "the network", "nothing", "a layer string, or a name of the zoo", 'write "conv(8,3) relu fc(10)"'
        )
    begun = re.match(r"[A-Za-z_][\w.-]*", text)
    known = begun is not None and (begun[0] in MODELS or begun[0] in WORDS or begun[0] == "res")
    if names_file(text) or means_path(text, known=known) or names_run(text):
        expected = "a layer string, or a name of the zoo: a page opens no files"
        raise ModelError("the network", text[:80], expected, "open a run with the lab: striate lab RUN")
    return text


def input_shape(text: str) -> tuple[int, ...] | None:
    """The shape of a text such as `1x28x28`; None for an empty text. Raises ModelError."""
    if not text.strip():
        return None
    parts = re.split(r"\s*[x×,]\s*", text.strip().lower())
    if not all(re.fullmatch("[0-9]{1,9}", part) for part in parts):
        expected = "whole numbers with x between them, channels first"
        raise ModelError("the input", repr(text[:60]), expected, "write 1x28x28")
    return read_input_shape([int(part) for part in parts])
