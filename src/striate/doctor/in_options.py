"""Remedies as options of `striate train`. Imports no check, since every report imports this module."""

from __future__ import annotations

from dataclasses import replace

from striate.data.sources.objects import is_given_data
from striate.records import Finding, Remedy
from striate.training.config import Config
from striate.training.config_file import get_field


def in_options(finding: Finding, config: Config) -> Finding:
    """The finding with its remedy as options of `striate train`, without settings that `config` has already."""
    given = finding.remedy
    if not isinstance(given, Remedy):
        return finding
    settings = {name: value for name, value in given.settings.items() if get_field(config, name) != value}
    # Commands read data from files, not arrays that were passed in Python.
    command = () if "DATA" in given.command and is_given_data(config.data.source) else given.command
    remedy = Remedy(given, settings=settings, command=command, advice=given.advice)
    text = remedy.for_training(config.data.source)
    return replace(finding, remedy=Remedy(text, settings=settings, command=command, advice=given.advice))
