"""Remedies as options of `striate train`; loads no check, since every report needs it."""

from __future__ import annotations

from dataclasses import replace

from striate.data.sources.objects import is_given_data
from striate.records import Finding, Remedy
from striate.training.config import Config
from striate.training.config_file import get_field


def in_options(finding: Finding, config: Config) -> Finding:
    """The finding with its remedy as options of `striate train` where it has any that `config` does not have yet."""
    told = finding.remedy
    if not isinstance(told, Remedy):
        return finding
    settings = {name: value for name, value in told.settings.items() if get_field(config, name) != value}
    # No command reads what lies in no file.
    command = () if "DATA" in told.command and is_given_data(config.data.source) else told.command
    other = Remedy(told, settings=settings, command=command, advice=told.advice)
    text = other.for_training(config.data.source)
    return replace(finding, remedy=Remedy(text, settings=settings, command=command, advice=told.advice))
