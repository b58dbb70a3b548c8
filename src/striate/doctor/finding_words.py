"""Findings in the words that all outputs show: modules as Python expressions, remedies as sentences with a full
stop."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from striate.records import Finding, Remedy
from striate.wording import python_name


def in_python_names(finding: Finding, model: nn.Module) -> Finding:
    """The finding with modules and parameters of `model` as Python expressions (`features[3]`, `model[0]`), and with a
    remedy that is a sentence."""
    names = {name for name, _ in (*model.named_modules(), *model.named_parameters())}
    numbered = sorted((name for name in names if re.search(r"(^|\.)\d", name)), key=len, reverse=True)
    dotted = [name for name in numbered if not name.isdigit()]
    return replace(
        finding,
        where=_renamed(finding.where, numbered),
        measured=_renamed(finding.measured.rstrip(". "), dotted),
        why=_renamed(finding.why, dotted),
        remedy=as_sentence(finding.remedy, dotted),
    )


def _renamed(text: str, names: Iterable[str]) -> str:
    """The text with dotted module paths as Python expressions, except in quoted code. A number before `more` or `%`
    is not a module; neither is a number within backticks, as in `nn.Dropout(0.5)`."""
    parts = text.split("`")
    for name in names:
        pattern = rf"(?<![\w.\[\"'-]){re.escape(name)}(?![\w\[\"'×]|\.\w| more\b| %)"
        step = 2 if re.fullmatch(r"[\d.]+", name) else 1
        parts[::step] = [re.sub(pattern, python_name(name), part) for part in parts[::step]]
    return "`".join(parts)


def as_sentence(remedy: str, names: Iterable[str] = ()) -> str:
    """A remedy with a capital letter and a full stop, and with module paths as Python expressions."""
    text = _renamed(remedy, names).strip()
    text = text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")
    if not isinstance(remedy, Remedy):
        return text
    return Remedy(text, settings=remedy.settings, command=remedy.command, advice=remedy.advice)
