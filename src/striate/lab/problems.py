"""An error as a page shows it: its remedy names the fields of the page, not options of the command line."""

from __future__ import annotations

import os
from typing import Any

from striate.errors import InputMisfit, LayerStringError, NoInputShape, StriateError
from striate.models.unknown_model import EXPECTED, LIST_OF_MODELS
from striate.records import Remedy

TRACEBACK = "STRIATE_TRACEBACK"
LABELS = {
    "kernel": "write",
    "padding-mode": "padding mode",
    "region": "region",
    "channel": "channel",
    "optim.lr": "learning rate",
    "budget.epochs": "epochs",
    "budget.minutes": "minutes",
    "recipe": "recipe",
    "lr": "learning rate",
}
"""The name on pages of an option of the command line or a field of the configuration."""
_MODEL_ON_A_PAGE = "a layer string, or a name of the zoo"


def problem_record(error: StriateError) -> dict[str, Any]:
    """The error as a JSON object for a page, with the position in a layer string and what to `write` there, or an input
    shape that fits.

    Where errors are normal, such as while the user types, an endpoint returns `{"error": problem_record(error)}` with
    status 200, since browsers log any other status on their console.
    """
    record = error.to_json()
    name, blank, value = error.where.removeprefix("--").partition(" ")
    if error.where.startswith("--"):
        record["where"] = LABELS.get(name, name) + blank + value if name != "kernel" else f"kernel{blank}{value}"
    if error.expected == EXPECTED:
        record["expected"] = _MODEL_ON_A_PAGE
    if isinstance(error, LayerStringError):
        record |= {"text": error.text, "position": error.position}
    if isinstance(error, InputMisfit):
        record |= {"fitting": error.fitting, "instead": error.instead, "remedy": _another_input(error)}
    elif isinstance(error, NoInputShape):
        record["remedy"] = "write an input shape: 1x28x28"
    elif isinstance(error.remedy, Remedy) and error.remedy.command == LIST_OF_MODELS:
        record["remedy"] = "choose one of the networks with a name"
    elif isinstance(error.remedy, Remedy) and "model.name" in error.remedy.settings:
        record["write"] = error.remedy.settings["model.name"]
    elif isinstance(error.remedy, Remedy):
        record["remedy"] = error.remedy.for_page(LABELS, "DATA")
    return record


def _another_input(error: InputMisfit) -> str:
    shape = f"the input shape {'x'.join(map(str, error.fitting))}" if error.fitting else ""
    network = f"another network: {error.instead}" if error.instead else ""
    return f"use {', or '.join(filter(None, (shape, network)))}" if shape or network else error.remedy


def shows_faults() -> bool:
    """Whether the environment requests tracebacks of faults."""
    return bool(os.environ.get(TRACEBACK))
