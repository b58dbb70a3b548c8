"""From how many views the network is to answer: decided, or refused where mirroring an image has no meaning."""

from __future__ import annotations

from dataclasses import replace

from striate.data.dataset import Dataset
from striate.errors import ConfigError
from striate.tasks.task import Task
from striate.tasks.views import VIEW_COUNTS
from striate.training.config import Config


def decide_views(config: Config, asked: Config, data: Dataset, task: Task) -> tuple[Config, list[str]]:
    """The configuration with `evaluation.views` decided, and what should be known of it.

    Open, it is `none`. What a recipe wishes for other data than images with classes is dropped with a note; raises
    ConfigError where the user (`asked`) wishes it.
    """
    views = config.evaluation.views or "none"
    evaluation = replace(config.evaluation, views=views)
    if views == "none":
        return replace(config, evaluation=evaluation), []
    fits = data.medium.pictures and task.mean_of_views
    if not fits and asked.evaluation.views is not None and "evaluation.views" not in asked.decided:
        what = f"{data.medium.a} a sample" if not data.medium.pictures else f"the task {task.name}"
        raise ConfigError(
            "evaluation.views",
            f"{views} for {data.name}, which has {what}",
            "images, and a task whose predictions for one view are predictions for all",
            "leave out --evaluation.views",
        )
    if not fits:
        return replace(config, evaluation=replace(evaluation, views="none")), [
            "answers are from one view of each sample"
        ]
    notes = [f"answers are the mean over {VIEW_COUNTS[views]} views of each image (evaluation.views {views})"]
    if not config.augment.flip:
        notes.append(
            "the network is trained without mirrored images, and asked for them: --augment.flip true, or no views"
        )
    return replace(config, evaluation=evaluation), notes
