"""Metrics of scikit-learn that a script computes for each batch and averages, though they are no means over samples."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from torch.utils.data import DataLoader

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, names_in

_OF_CLASSES = (
    "f1_score", "fbeta_score", "precision_score", "recall_score", "jaccard_score", "balanced_accuracy_score",
    "matthews_corrcoef", "cohen_kappa_score",
)  # fmt: skip
APART = 0.02


def averaged_metrics(evidence: Evidence) -> Iterator[tuple[ast.Call, float, float]]:
    """Calls of metrics in a loop over validation batches, the mean over the batches in the trial, and the metric of all
    samples, where they differ."""
    source = evidence.source
    for site in source.calls(*_OF_CLASSES):
        function = source.value(site.node.func)
        of_library = str(getattr(function, "__module__", "")).startswith("sklearn.metrics")
        if not of_library or not _is_of_batch(evidence, source, site.node):
            continue
        found, sizes = evidence.after_val, evidence.val.sizes
        if found.targets is None or found.targets.ndim != 1 or len(sizes) < 2 or len(found.targets) != sum(sizes):
            continue
        options = {word.arg: source.value(word.value) for word in site.node.keywords if word.arg}
        options = {name: value for name, value in options.items() if name not in ("y_true", "y_pred")}
        parts = zip(found.targets.split(list(sizes)), found.predicted.split(list(sizes)), strict=True)
        with suppress(Exception), warnings.catch_warnings():  # the user's options may not fit the classes
            warnings.simplefilter("ignore")
            mean = float(np.mean([function(y.numpy(), predicted.numpy(), **options) for y, predicted in parts]))
            whole = float(function(found.targets.numpy(), found.predicted.numpy(), **options))
            if abs(mean - whole) > APART:
                yield site.node, mean, whole


def _is_of_batch(evidence: Evidence, source: ScriptSource, call: ast.Call) -> bool:
    """Whether a call is in a loop, or comprehension, over a loader other than that of training, and gets variables of
    the loop."""
    given = {name for argument in (*call.args, *(word.value for word in call.keywords)) for name in names_in(argument)}
    loops: list[tuple[ast.expr, ast.expr]] = []
    for around in source.enclosing(call):
        if isinstance(around, ast.For):
            loops.append((around.target, around.iter))
        if isinstance(around, ast.ListComp | ast.GeneratorExp):
            loops += [(part.target, part.iter) for part in around.generators]
    for target, over in loops:
        while isinstance(over, ast.Call) and over.args and called(over) in ("enumerate", "tqdm", "progress_bar"):
            over = over.args[0]
        loader = source.value(over)
        if isinstance(loader, DataLoader) and loader is not evidence.setup.train and names_in(target) & given:
            return True
    return False
