"""Counts of an evaluation that begin before the epochs and never anew."""

from __future__ import annotations

import ast

import pytest

from striate.doctor.checks.eval.never_reset import _never_emptied, _never_zeroed_by_callbacks
from striate.doctor.setup.script_source import ScriptSource

LEARNER = """
class Callback({base}):
    pass
class Metrics(Callback):
    def {begins}(self):
        self.right, self.seen = 0, 0
    def after_batch(self):
        self.right += (self.learn.pred.argmax(1) == self.learn.yb).sum().item()
        self.seen += len(self.learn.yb)
    def after_epoch(self):
        print(self.right / self.seen)
class Learner:
    def __call__(self, event):
        for callback in self.callbacks:
            getattr(callback, event)()
    def one_batch(self):
        self.pred = self.model(self.xb)
        self("after_batch")
    def one_epoch(self, loader):
        self("before_epoch")
        for self.xb, self.yb in loader:
            self.one_batch()
        self("after_epoch")
    def fit(self):
        self("before_fit")
        for self.epoch in range(5):
            self.one_epoch(self.train)
            self.one_epoch(self.val)
learner = Learner()
{more}
learner.fit()
"""


@pytest.mark.parametrize(
    ("begins", "more", "base", "wrong"),
    [
        ("before_fit", "learner.callbacks = [Metrics()]", "object", True),
        ("__init__", "learner.callbacks = [Metrics()]", "object", True),
        ("before_epoch", "learner.callbacks = [Metrics()]", "object", False),
        ("__init__", "for fold in folds: learner.callbacks = [Metrics()]", "object", False),
        ("before_fit", "def anew(metrics): metrics.right = metrics.seen = 0", "object", False),
        ("before_fit", "learner.callbacks = [Metrics()]", "library.Metric", False),  # which may reset it
        ("before_fit", "learner.callbacks = [Metrics()]", "library.Metrics", False),  # of the name of its subclass
    ],
)
def test_counts_of_a_callback_are_set_in_each_epoch(begins: str, more: str, base: str, wrong: bool) -> None:
    tree = ast.parse(LEARNER.format(begins=begins, more=more, base=base))
    loop = next(node for node in ast.walk(tree) if isinstance(node, ast.For) and "self.xb" in ast.unparse(node.target))
    source = ScriptSource({"train.py": tree}, {}, ("train.py", loop.lineno, loop.end_lineno or 0), 5)
    found = list(_never_zeroed_by_callbacks(source))
    assert ["`self.right / self.seen`" in one.measured for one in found] == [True] * wrong


GLOBAL = """
right = 0
def test(loader):
    {declared}
    for x, y in loader:
        right += (net(x).argmax(1) == y).sum().item()
    print(right / len(loader.dataset))
def fit():
    {begun}
    for epoch in range(5):
        {anew}
        for x, y in train_loader:
            step(x, y)
        test(test_loader)
fit()
"""


@pytest.mark.each_nth(1)
@pytest.mark.parametrize(
    ("declared", "begun", "anew", "wrong"),
    [
        ("global right", "pass", "pass", True),
        ("global seen, right", "right = 1", "pass", True),  # a variable of its own
        ("global right; right = 0", "pass", "pass", False),
        ("right = 0", "pass", "pass", False),
        ("global right", "global right", "right = 0", False),
    ],
)
def test_a_global_count_is_set_in_each_epoch(declared: str, begun: str, anew: str, wrong: bool) -> None:
    tree = ast.parse(GLOBAL.format(declared=declared, begun=begun, anew=anew))
    batches = [node for node in ast.walk(tree) if isinstance(node, ast.For) and "x" in ast.unparse(node.target)]
    evaluation, training = sorted(batches, key=lambda node: node.lineno)
    source = ScriptSource({"train.py": tree}, {}, ("train.py", training.lineno, training.end_lineno or 0), 5)
    assert _never_emptied(source, evaluation) == ("right" if wrong else None)
