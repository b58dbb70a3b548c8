"""Records that all parts of striate exchange: plain and frozen, without torch."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from striate import notebook

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Remedy(str):
    """What to change. The text is a sentence for users of PyTorch; the rest is the same change as data, from which the
    terminal and the lab make their own sentences."""

    settings: Mapping[str, Any]
    """Fields of the configuration, with values that make the change in a training by striate."""
    command: tuple[str, ...]
    """The words of a striate command that makes the change or shows more; `DATA` stands for the data."""
    advice: str
    """What else helps in a training by striate, such as `more samples`: in lower case, without a full stop."""

    def __new__(
        cls, text: str, *, settings: Mapping[str, Any] | None = None, command: tuple[str, ...] = (), advice: str = ""
    ) -> Remedy:
        remedy = super().__new__(cls, text)
        remedy.settings, remedy.command, remedy.advice = settings or {}, command, advice
        return remedy

    @property
    def options(self) -> str:
        """The settings as options of `striate train`: `--optim.lr 0.01`."""
        return " ".join(f"--{name} {shlex.quote(_typed(value))}" for name, value in self.settings.items())

    def for_training(self, data: str) -> str:
        """The change as options and commands of striate; the text where none are known."""
        text = self._alternatives(self.options, data)
        return text if text.startswith("striate ") else text[:1].upper() + text[1:]

    def for_page(self, labels: Mapping[str, str], data: str) -> str:
        """The change on a page whose fields have these `labels`; settings without a field are options."""
        asked = [
            f"{labels[name]} {_typed(value)}" if name in labels else f"--{name} {_typed(value)} on the command line"
            for name, value in self.settings.items()
        ]
        return self._alternatives(", ".join(asked), data)

    def _alternatives(self, change: str, data: str) -> str:
        words = ["striate", *(data if word == "DATA" else word for word in self.command)] if self.command else []
        text = "; or ".join(part for part in (change, self.advice, shlex.join(words)) if part)
        return text or str(self)


def option_remedy(name: str, value: str, words: str = "", after: str = "") -> Remedy:
    """A remedy that is one option, `--name value`, with words before and after it."""
    return Remedy(f"{words}--{name} {value}{after}", settings={name: value})


def _typed(value: Any) -> str:
    """A value as typed after an option or into a field."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):  # height and width
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Finding:
    """Something noticed about data, a network or a run, with its measurement and its remedy."""

    code: str
    """Stable and dotted: `data.leak`."""
    severity: Severity
    where: str
    measured: str
    """Text with units."""
    threshold: str
    """Text with units."""
    why: str
    remedy: str
    """A `Remedy` where the change is known as data."""

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return {field.name: str(getattr(self, field.name)) for field in fields(self)}

    def _repr_html_(self) -> str:
        return notebook.finding(
            self.severity, f"{self.where}: {self.measured}.", self.why, remedy=self.remedy, code=self.code
        )

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.measured}. {self.why} {self.remedy}"


def severity_counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings there are of each severity."""
    found = Counter[str](finding.severity for finding in findings)
    return {severity: found[severity] for severity in SEVERITIES}


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float
    level: float
    """Its level, 0 to 1."""
    method: str
    """The method, in words."""
