"""The public functions, each of which combines several packages. A function is loaded when it is first used: training
takes seconds to load, and functions that examine a network do not need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.loading import loaded

if TYPE_CHECKING:
    from striate.api.announcing import announcer
    from striate.api.comparing import compare
    from striate.api.cropping import CroppedData, crop_data
    from striate.api.data import check_data, convert_data, index_data, pack, pack_shards
    from striate.api.diagnosing import TrainingDiagnosis, diagnose_run, diagnose_training, write_diagnosis
    from striate.api.explaining import explain, write_explanation
    from striate.api.exporting import export, try_export
    from striate.api.measuring import (
        baselines,
        evaluate,
        invariance,
        robustness,
        write_evaluation,
        write_invariance,
        write_robustness,
    )
    from striate.api.networks import Summary, build, load, summarize, summary, write_summary
    from striate.api.planning import TrainingPlan, plan_training
    from striate.api.playing import evaluate_player, play
    from striate.api.predicted_lines import Predicting
    from striate.api.predicting import FilePrediction, FilePredictions, predict_files
    from striate.api.predictions_table.write import PredictionsFile, predictions_file
    from striate.api.searching import Match, SearchResult, match, search
    from striate.api.serving import serve
    from striate.api.showing import Shown, show
    from striate.api.studies import find_learning_rate, learning_curve, sweep, write_learning_curve
    from striate.api.training import Run, resume, train, train_config
    from striate.api.unknown import data_drift, evaluate_unknown
    from striate.api.verifying import Verification, verify

_PLACES = {
    "predicting": ("FilePrediction", "FilePredictions", "predict_files"),
    "predicted_lines": ("Predicting",),
    "predictions_table.write": ("PredictionsFile", "predictions_file"),
    "comparing": ("compare",),
    "cropping": ("CroppedData", "crop_data"),
    "data": ("check_data", "convert_data", "index_data", "pack", "pack_shards"),
    "diagnosing": ("TrainingDiagnosis", "diagnose_run", "diagnose_training", "write_diagnosis"),
    "explaining": ("explain", "write_explanation"),
    "measuring": (
        "baselines",
        "evaluate",
        "invariance",
        "robustness",
        "write_evaluation",
        "write_invariance",
        "write_robustness",
    ),
    "exporting": ("export", "try_export"),
    "networks": ("Summary", "build", "load", "summarize", "summary", "write_summary"),
    "announcing": ("announcer",),
    "playing": ("evaluate_player", "play"),
    "planning": ("TrainingPlan", "plan_training"),
    "studies": ("find_learning_rate", "learning_curve", "sweep", "write_learning_curve"),
    "searching": ("Match", "SearchResult", "match", "search"),
    "serving": ("serve",),
    "showing": ("Shown", "show"),
    "training": ("Run", "resume", "train", "train_config"),
    "unknown": ("data_drift", "evaluate_unknown"),
    "verifying": ("Verification", "verify"),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "CroppedData",
    "FilePrediction",
    "FilePredictions",
    "Match",
    "Predicting",
    "PredictionsFile",
    "Run",
    "SearchResult",
    "Shown",
    "Summary",
    "TrainingDiagnosis",
    "TrainingPlan",
    "Verification",
    "announcer",
    "baselines",
    "build",
    "check_data",
    "compare",
    "convert_data",
    "crop_data",
    "data_drift",
    "diagnose_run",
    "diagnose_training",
    "evaluate",
    "evaluate_player",
    "evaluate_unknown",
    "explain",
    "export",
    "find_learning_rate",
    "index_data",
    "invariance",
    "learning_curve",
    "load",
    "match",
    "pack",
    "pack_shards",
    "plan_training",
    "play",
    "predict_files",
    "predictions_file",
    "resume",
    "robustness",
    "search",
    "serve",
    "show",
    "summarize",
    "summary",
    "sweep",
    "train",
    "train_config",
    "try_export",
    "verify",
    "write_diagnosis",
    "write_evaluation",
    "write_explanation",
    "write_invariance",
    "write_learning_curve",
    "write_robustness",
    "write_summary",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module 'striate.api' has no attribute {name!r}")
    return getattr(loaded(f"striate.api.{_PLACE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
