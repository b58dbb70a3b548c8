"""The tasks, a line each; free of torch."""

from __future__ import annotations

TASKS: dict[str, str] = {
    "classify": "striate.tasks.classify.task:Classify",
    "regress": "striate.tasks.regress.task:Regress",
    "multilabel": "striate.tasks.multilabel.task:Multilabel",
    "several": "striate.tasks.several.task:Several",
    "segment": "striate.tasks.segment.task:Segment",
    "detect": "striate.tasks.detect.task:Detect",
    "instances": "striate.tasks.instances.task:Instances",
    "keypoints": "striate.tasks.keypoints.task:Keypoints",
    "embed": "striate.tasks.embed.task:Embed",
    "reconstruct": "striate.tasks.reconstruct.task:Reconstruct",
    "caption": "striate.tasks.caption.task:Caption",
}
"""Name to module and class, in the order in which messages list them."""

REWARDS = "control"
"""The task of environments: it has no samples, and a loop of its own."""
NAMES = ("auto", *TASKS, REWARDS)
"""The names that `--task` takes, besides `file.py:name`."""
