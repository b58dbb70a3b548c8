"""Training scripts as text that tests of checks share, and what is found in them."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, perceptron
from remedies_tried import try_remedy
from striate.doctor.checks.eval.batch_means import BATCH_MEANS
from striate.doctor.checks.eval.best_epoch.worst_kept import WORST_KEPT
from striate.doctor.checks.eval.counts.wrong_count import WRONG_COUNT
from striate.doctor.checks.eval.mode import MODE
from striate.doctor.checks.eval.threshold import THRESHOLD
from striate.doctor.checks.eval.wrong_axis import WRONG_AXIS
from striate.doctor.checks.optim.accumulation import CLEARED, UNDIVIDED
from striate.doctor.checks.optim.clip_order import CHECK as CLIP_ORDER
from striate.doctor.checks.optim.schedule.scheduler_calls import CHECK as SCHEDULER_CALLS
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.script.drawn_batches import DrawnBatches
from striate.doctor.setup.library_training import LibraryTraining
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding


def found_in_library(
    model: nn.Module, check: Any, text: str, names: dict[str, Any], library: LibraryTraining, **options: Any
) -> list[Finding]:
    trees = {"script.py": ast.parse(textwrap.dedent(text))}
    given = {"model": model, "torch": torch, **names}
    source = ScriptSource(trees, given, ("script.py", 1, 1), library.epochs, library=library)
    optimizer = names.get("optimizer") or torch.optim.Adam(model.parameters(), 1e-2)
    return asked(check, model, digits(), val=digits(100, 250), source=source, **{"optimizer": optimizer, **options})


class Counting(DrawnBatches):
    """Batches of a loop that draws so many."""

    def __init__(self, passes: int) -> None:
        whole = iter(digits()) if passes else None
        self.kept = list(whole or ())
        super().__init__(lambda: self.kept[0], passes=passes, count=len(self.kept))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.kept)


CHECKS = (
    MODE,
    WRONG_AXIS,
    THRESHOLD,
    WRONG_COUNT,
    BATCH_MEANS,
    WORST_KEPT,
    CLIP_ORDER,
    SCHEDULER_CALLS,
    CLEARED,
    UNDIVIDED,
)


SCRIPT = """
class Meter:
    def update(self, value, n=1):
        self.sum, self.count = self.sum + value * n, self.count + n
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
for epoch in range(5):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    model.eval()
    correct, total = 0, 0
    with torch.no_grad():
        for x, y in val_loader:
            outputs = model(x)
            predicted = outputs.argmax(dim=1)
            correct += (predicted == y).sum().item()
            total += len(y)
    accuracy = correct / total
    if accuracy > best_accuracy:
        best_accuracy = accuracy
    scheduler.step()
"""


def values(scheduler: Any = None) -> dict[str, Any]:
    model = nn.Sequential(perceptron(), nn.Dropout(0.1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.zeros(61, 1, 8, 8)
    return {
        "torch": torch, "model": model, "loader": digits(), "optimizer": optimizer, "criterion": nn.CrossEntropyLoss(),
        "val_loader": DataLoader(TensorDataset(x, torch.zeros(61).long()), 20), "scaler": torch.amp.GradScaler("cpu"),
        "scheduler": scheduler(optimizer) if scheduler else StepLR(optimizer, 10),
    }  # fmt: skip


def found(text: str, names: dict[str, Any], checks: Any = CHECKS) -> dict[str, str]:
    """Codes and remedies."""
    tree = ast.parse(text)
    loop = next(node for node in ast.walk(tree) if isinstance(node, ast.For) and ast.unparse(node.iter) == "loader")
    source = ScriptSource({"train.py": tree}, names, ("train.py", loop.lineno, loop.end_lineno or 0), 5)
    setup = make_setup(
        names["model"], names["loader"], names["val_loader"], loss=names["criterion"], optimizer=names["optimizer"],
        source=source,
    )  # fmt: skip
    with state_preserved(setup):
        evidence = Evidence(setup, Clock(20.0))
        findings = [finding for check in checks for finding in check.run(evidence)]
    for finding in findings:
        try_remedy(finding.remedy)
    return {finding.code: str(finding.remedy) for finding in findings}


def codes_of_script(text: str, names: dict[str, Any], check: Any) -> list[str]:
    """Of one check."""
    return list(found(textwrap.dedent(text), names, [check]))


def source_of(text: str, **names: Any) -> ScriptSource:
    """A script of which the check reads nothing but the text and these names."""
    return ScriptSource({"script.py": ast.parse(textwrap.dedent(text))}, names, ("script.py", 1, 2), 5)
