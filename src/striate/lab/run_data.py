"""The data of the run that the lab was opened with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from striate.errors import RunError

if TYPE_CHECKING:
    from striate.data.listing import Listing
    from striate.lab.workbench import Lab
    from striate.training.config import Config


def run_config(lab: Lab) -> Config:
    """The configuration of the run. Raises RunError where the lab has none, or only a checkpoint."""
    from striate.runs.directory import open_run
    from striate.training.config_file import config_from_yaml

    if lab.run is None:
        raise RunError("the lab", "no run", "a run directory", "striate lab RUN")
    return config_from_yaml(open_run(lab.run).config)


def run_listing(lab: Lab) -> Listing:
    """The samples of the run's data. Raises DataError where they are not there any more, RunError without a run."""
    from striate.data.sources.choose import list_source
    from striate.tasks.registry import annotation_for

    config = run_config(lab)
    return list_source(config.data, annotation_for(config.task))
