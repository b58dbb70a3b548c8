"""striate: a workbench for convolutional networks. The public names, each loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.loading import loaded
from striate.version import VERSION

if TYPE_CHECKING:
    from striate import api, reference
    from striate.account.gradients.check import check_gradients
    from striate.account.ledger import Ledger
    from striate.api import (
        build,
        check_data,
        compare,
        evaluate,
        explain,
        export,
        find_learning_rate,
        invariance,
        learning_curve,
        load,
        match,
        pack,
        plan_training,
        play,
        robustness,
        search,
        serve,
        show,
        summarize,
        sweep,
        train,
    )
    from striate.doctor.diagnose import diagnose
    from striate.doctor.diagnosis import Diagnosis
    from striate.errors import StriateError
    from striate.evaluation.comparison import Comparison
    from striate.evaluation.robustness.invariance import Invariance
    from striate.evaluation.robustness.robustness import Robustness
    from striate.records import Finding, Interval
    from striate.studies.learning_curve.learning_curve import LearningCurve
    from striate.tasks.evaluation import Evaluation
    from striate.tasks.metric import Metric
    from striate.tasks.task import Task
    from striate.training.trained import Trained
    from striate.visualize.attribution.explanation_record import Explanation

__version__ = VERSION

_ROOMS = ("api", "reference")
_PUBLIC = {
    "train": "striate.api",
    "load": "striate.api",
    "build": "striate.api",
    "check_data": "striate.api",
    "compare": "striate.api",
    "evaluate": "striate.api",
    "explain": "striate.api",
    "export": "striate.api",
    "find_learning_rate": "striate.api",
    "invariance": "striate.api",
    "learning_curve": "striate.api",
    "match": "striate.api",
    "play": "striate.api",
    "pack": "striate.api",
    "plan_training": "striate.api",
    "robustness": "striate.api",
    "search": "striate.api",
    "serve": "striate.api",
    "show": "striate.api",
    "sweep": "striate.api",
    "check_gradients": "striate.account.gradients.check",
    "diagnose": "striate.doctor.diagnose",
    "summarize": "striate.api",
    "Comparison": "striate.evaluation.comparison",
    "Diagnosis": "striate.doctor.diagnosis",
    "LearningCurve": "striate.studies.learning_curve.learning_curve",
    "Ledger": "striate.account.ledger",
    "Invariance": "striate.evaluation.robustness.invariance",
    "Robustness": "striate.evaluation.robustness.robustness",
    "Metric": "striate.tasks.metric",
    "Task": "striate.tasks.task",
    "Trained": "striate.training.trained",
    "Evaluation": "striate.tasks.evaluation",
    "Finding": "striate.records",
    "Interval": "striate.records",
    "StriateError": "striate.errors",
    "Explanation": "striate.visualize.attribution.explanation_record",
}

__all__ = [
    "Comparison",
    "Diagnosis",
    "Evaluation",
    "Explanation",
    "Finding",
    "Interval",
    "Invariance",
    "LearningCurve",
    "Ledger",
    "Metric",
    "Robustness",
    "StriateError",
    "Task",
    "Trained",
    "api",
    "build",
    "check_data",
    "check_gradients",
    "compare",
    "diagnose",
    "evaluate",
    "explain",
    "export",
    "find_learning_rate",
    "invariance",
    "learning_curve",
    "load",
    "match",
    "pack",
    "plan_training",
    "play",
    "reference",
    "robustness",
    "search",
    "serve",
    "show",
    "summarize",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import striate` takes milliseconds: torch alone takes over a second.
    if name in _ROOMS:
        return loaded(f"striate.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'striate' has no attribute {name!r}")
    return getattr(loaded(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
