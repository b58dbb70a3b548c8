"""The public functions: each a short composition of rooms. Each is loaded when first used: training takes seconds to
load, and what looks at a network needs none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.loading import loaded

if TYPE_CHECKING:
    from striate.api.answering import FileAnswer, FileAnswers, answer_files
    from striate.api.checking import check_data
    from striate.api.comparing import compare
    from striate.api.diagnosing import Consultation, diagnose_run, diagnose_training, write_diagnosis
    from striate.api.explaining import explain, write_explanation
    from striate.api.learning import learning_curve, write_learning_curve
    from striate.api.measuring import baselines, evaluate
    from striate.api.networks import build, load
    from striate.api.news import announcer
    from striate.api.packing import pack
    from striate.api.planning import TrainingPlan, plan_training
    from striate.api.searching import find_learning_rate, sweep
    from striate.api.sharding import pack_shards
    from striate.api.showing import Shown, show
    from striate.api.summarizing import Summary, summary, write_summary
    from striate.api.training import Run, resume, train, train_config
    from striate.api.verifying import Verification, verify
    from striate.api.withstanding import robustness, write_robustness

_PLACES = {
    "answering": ("FileAnswer", "FileAnswers", "answer_files"),
    "checking": ("check_data",),
    "comparing": ("compare",),
    "diagnosing": ("Consultation", "diagnose_run", "diagnose_training", "write_diagnosis"),
    "explaining": ("explain", "write_explanation"),
    "learning": ("learning_curve", "write_learning_curve"),
    "measuring": ("baselines", "evaluate"),
    "networks": ("build", "load"),
    "news": ("announcer",),
    "packing": ("pack",),
    "planning": ("TrainingPlan", "plan_training"),
    "searching": ("find_learning_rate", "sweep"),
    "sharding": ("pack_shards",),
    "showing": ("Shown", "show"),
    "summarizing": ("Summary", "summary", "write_summary"),
    "training": ("Run", "resume", "train", "train_config"),
    "verifying": ("Verification", "verify"),
    "withstanding": ("robustness", "write_robustness"),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "Consultation",
    "FileAnswer",
    "FileAnswers",
    "Run",
    "Shown",
    "Summary",
    "TrainingPlan",
    "Verification",
    "announcer",
    "answer_files",
    "baselines",
    "build",
    "check_data",
    "compare",
    "diagnose_run",
    "diagnose_training",
    "evaluate",
    "explain",
    "find_learning_rate",
    "learning_curve",
    "load",
    "pack",
    "pack_shards",
    "plan_training",
    "resume",
    "robustness",
    "show",
    "summary",
    "sweep",
    "train",
    "train_config",
    "verify",
    "write_diagnosis",
    "write_explanation",
    "write_learning_curve",
    "write_robustness",
    "write_summary",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module 'striate.api' has no attribute {name!r}")
    return getattr(loaded(f"striate.api.{_PLACE_OF[name]}"), name)
