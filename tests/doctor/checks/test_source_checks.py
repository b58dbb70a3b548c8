"""Checks that read a script's code: each names its fault, is content with its remedy, and with the usual forms."""

from __future__ import annotations

import ast
import textwrap
from typing import Any

import pytest
import torch
from asked import digits, perceptron
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from quick import few_quick
from remedies_tried import try_remedy
from striate.doctor.checks.data.same_order import SAME_ORDER
from striate.doctor.checks.data.splits.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.eval.batch_means import BATCH_MEANS
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.modes import MODE
from striate.doctor.checks.eval.predicted import THRESHOLD, WRONG_AXIS
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.fit.generalization import UNDERFIT
from striate.doctor.checks.loss.counted.class_weights import CLASS_WEIGHTS
from striate.doctor.checks.model.detached_parameters import GRAPH_DETACHED
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.checks.model.idle_parameters import FROZEN_PARAMETERS
from striate.doctor.checks.optim.accumulation import READ as ACCUMULATION_READ
from striate.doctor.checks.optim.clip_order import CHECK as CLIP_ORDER
from striate.doctor.checks.optim.scheduler_calls import CHECK as SCHEDULER_CALLS
from striate.doctor.checks.optim.steps import MISSING_ZERO_GRAD
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup

CHECKS = (
    MODE,
    WRONG_AXIS,
    THRESHOLD,
    WRONG_COUNT,
    BATCH_MEANS,
    WORST_KEPT,
    CLIP_ORDER,
    SCHEDULER_CALLS,
    ACCUMULATION_READ,
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
FAULTS = {
    "eval.mode, never": ("    model.eval()\n", "", "before the evaluation"),
    "eval.mode, never back": ("    model.train()\n", "", "`model.train()` at the beginning"),
    "eval.wrong-axis": ("argmax(dim=1)", "argmax(dim=0)", "`outputs.argmax(dim=1)`"),
    "eval.threshold": ("outputs.argmax(dim=1)", "outputs.sigmoid() > 0", "`outputs.sigmoid() > 0.5`"),
    "eval.wrong-count, batches": ("correct / total", "correct / len(val_loader)", "divide by `total`"),
    "eval.wrong-count, other data": ("correct / total", "correct / len(loader.dataset)", "divide by `total`"),
    "eval.batch-means": (
        "correct += (predicted == y).sum().item()\n            total += len(y)\n    accuracy = correct / total",
        "correct += (predicted == y).float().mean()\n    accuracy = correct / len(val_loader)",
        "`correct / total`",
    ),
    "eval.worst-kept": ("accuracy > best_accuracy", "accuracy < best_accuracy", "`accuracy > best_accuracy`"),
    "eval.worst-kept, beside": (
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n",
        "    is_best = accuracy < best_accuracy\n    best_accuracy = min(accuracy, best_accuracy)\n",
        "`accuracy > best_accuracy`",
    ),
    "eval.wrong-count, earlier epochs": (
        "correct, total = 0, 0\n    with",
        "with",
        "anew before the loop",
    ),
    "eval.batch-means, meter": (
        "correct += (predicted == y).sum().item()",
        "correct += (predicted == y).sum().item()\n            top1.update(accuracy_of(outputs, y))",
        "`meter.update(value, len(targets))`",
    ),
    "optim.clip-order, scaled": ("        scaler.unscale_(optimizer)\n", "", "`scaler.unscale_(optimizer)` before"),
    "optim.clip-order, late": (
        "        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n        scaler.step(optimizer)\n",
        "        scaler.step(optimizer)\n        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n",
        "before `scaler.step(optimizer)`",
    ),
    "optim.clip-order, early": (
        "        scaler.scale(loss).backward()\n        scaler.unscale_(optimizer)\n"
        "        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n",
        "        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n        scaler.scale(loss).backward()\n",
        "before `scaler.step(optimizer)`",
    ),
    "optim.accumulation, cleared": (
        "        scaler.step(optimizer)\n",
        "        if (step + 1) % 4 == 0:\n            scaler.step(optimizer)\n",
        "`optimizer.zero_grad()` right behind `scaler.step(optimizer)`",
    ),
    "eval.wrong-count, ones": ("total += len(y)", "total += 1", "`total += len(targets)`"),
    "optim.scheduler-calls, never": ("    scheduler.step()\n", "", "`scheduler.step()` behind the loop over batches"),
    "optim.scheduler-calls, twice": (
        "        scaler.update()\n",
        "        scaler.update()\n        scheduler.step()\n",
        "`",
    ),
}


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


@pytest.mark.parametrize("name", few_quick(list(FAULTS), ["eval.wrong-axis", "optim.clip-order, late"]))
def test_a_fault_in_the_code_is_named_and_its_remedy_is_the_healthy_line(name: str) -> None:
    right, wrong, remedy = FAULTS[name]
    assert SCRIPT.count(right) == 1
    told = found(SCRIPT.replace(right, wrong), values())
    assert list(told) == [name.partition(",")[0]]
    assert remedy in told[name.partition(",")[0]]


@pytest.mark.parametrize(
    ("loss", "epochs", "optimizer", "told"),
    [
        ("loss", "5", torch.optim.SGD, True),
        ("loss", "total // accum_steps", torch.optim.SGD, True),
        ("loss / accum_steps", "5", torch.optim.SGD, False),
        ("loss.div(accum_steps)", "5", torch.optim.SGD, False),
        ("loss", "5", torch.optim.Adam, False),
    ],
)
def test_what_is_added_up_for_a_named_number_of_batches_is_divided_by_it(
    loss: str, epochs: str, optimizer: Any, told: bool
) -> None:
    step = "        if (i + 1) % accum_steps == 0:\n            scaler.step(optimizer)\n            "
    step += "optimizer.zero_grad()\n"
    text = SCRIPT.replace("        optimizer.zero_grad()\n", "").replace("        scaler.step(optimizer)\n", step)
    text = text.replace("scaler.scale(loss)", f"scaler.scale({loss})").replace("range(5)", f"range({epochs})")
    names = values()
    names["optimizer"] = optimizer(names["model"].parameters(), lr=0.01)
    remedies = found(text, names, [ACCUMULATION_READ])
    assert remedies == ({"optim.accumulation": "divide the loss: `(loss / accum_steps).backward()`"} if told else {})


@pytest.mark.parametrize(("returned", "right"), [("losses.avg", False), ("top1.avg", True), ("nll, top1", True)])
def test_what_a_function_returns_says_what_is_kept(returned: str, right: bool) -> None:
    text = SCRIPT.replace("    if accuracy > best", "    accuracy = validate(model)\n    if accuracy > best")
    text = text.replace("    accuracy = correct / total\n", "")
    told = found(text + f"def validate(net):\n    return {returned}\n", values(), [WORST_KEPT])
    assert list(told) == ["eval.worst-kept"] * (not right)


def test_a_script_as_everyone_writes_it_is_healthy() -> None:
    assert found(SCRIPT, values()) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheduler", "call", "place", "right"),
    [
        (lambda o: CosineAnnealingLR(o, 5), "scheduler.step()", "batch", lambda o: CosineAnnealingLR(o, 100)),
        (lambda o: StepLR(o, 1, 0.5), "scheduler.step()", "batch", lambda o: StepLR(o, 1000)),
        (lambda o: OneCycleLR(o, 0.1, 100), "scheduler.step()", "epoch", lambda o: OneCycleLR(o, 0.1, 5)),
        (
            lambda o: LambdaLR(o, lambda step: min(1.0, (step + 1) / 50)),
            "scheduler.step()",
            "epoch",
            lambda o: LambdaLR(o, lambda epoch: min(1.0, (epoch + 1) / 3)),
        ),
        (
            lambda o: ReduceLROnPlateau(o, "min"),
            "scheduler.step(accuracy)",
            "epoch",
            lambda o: ReduceLROnPlateau(o, "max"),
        ),
    ],
)
def test_a_scheduler_is_stepped_as_its_lengths_are_meant(scheduler: Any, call: str, place: str, right: Any) -> None:
    text = SCRIPT.replace("    scheduler.step()\n", f"    {call}\n")
    if place == "batch":
        text = SCRIPT.replace("    scheduler.step()\n", "").replace("update()\n", f"update()\n        {call}\n")
    code = "optim.scheduler-calls" if "accuracy" in call else "optim.lr-schedule"
    assert list(found(text, values(scheduler), [SCHEDULER_CALLS])) == [code]
    assert found(text, values(right), [SCHEDULER_CALLS]) == {}


@pytest.mark.parametrize(("inside", "found_there"), [("", True), ("optimizer.step(); ", False)])
def test_a_warmup_in_steps_is_not_stepped_once_in_many(inside: str, found_there: bool) -> None:
    """But where gradients are accumulated."""
    text = SCRIPT.replace("    scheduler.step()\n", "").replace(
        "update()\n", f"update()\n        if count % 25 == 0:\n            {inside}scheduler.step()\n"
    )
    names = values(lambda o: LambdaLR(o, lambda step: min(1.0, (step + 1) / 50)))
    assert list(found(text, names, [SCHEDULER_CALLS])) == ["optim.lr-schedule"] * found_there


@pytest.mark.parametrize(
    ("kept", "given", "mode", "right"),
    [
        ("score < best", "score", "min", True),
        ("score > best", "score", "min", False),
        ("score < best", "score", "max", False),
        ("score < best", "-score", "max", True),
    ],
)
def test_a_score_may_be_one_that_falls(kept: str, given: str, mode: str, right: bool) -> None:
    text = SCRIPT.replace("accuracy > best_accuracy", kept).replace("scheduler.step()", f"scheduler.step({given})")
    names = values(lambda o: ReduceLROnPlateau(o, mode))
    assert (found(text, names, [SCHEDULER_CALLS]) == {}) is right


@pytest.mark.parametrize(("given", "mode", "right"), [("-accuracy", "min", True), ("1 - accuracy", "max", False)])
def test_a_metric_may_be_turned_round(given: str, mode: str, right: bool) -> None:
    text = SCRIPT.replace("scheduler.step()", f"scheduler.step({given})")
    assert (found(text, values(lambda o: ReduceLROnPlateau(o, mode)), [SCHEDULER_CALLS]) == {}) is right


def test_a_scheduler_stepped_before_the_optimizer_is_named() -> None:
    names = values()
    names["optimizer"].step()
    names["scheduler"].step()
    assert list(found(SCRIPT, names, [SCHEDULER_CALLS])) == ["optim.scheduler-calls"]


def test_a_rate_that_grows_to_the_end_is_named() -> None:
    text = SCRIPT.replace("    scheduler.step()\n", "").replace("update()\n", "update()\n        scheduler.step()\n")
    grows, ends = (lambda o: LambdaLR(o, lambda step: (step + 1) / 2)), (lambda o: LambdaLR(o, lambda _: 1.0))
    assert list(found(text, values(grows), [SCHEDULER_CALLS])) == ["optim.lr-schedule"]
    assert found(text, values(ends), [SCHEDULER_CALLS]) == {}


def test_predictions_in_attributes_are_known() -> None:
    class Learner:
        model = perceptron()

    text = "for x, y in loader:\n    self.pred = self.model(x)\n    self.hits = self.pred.argmax(AXIS) == y\n"
    names = values() | {"self": Learner()}
    assert list(found(text.replace("AXIS", "0"), names, [WRONG_AXIS])) == ["eval.wrong-axis"]
    assert found(text.replace("AXIS", "1"), names, [WRONG_AXIS]) == {}


@pytest.mark.parametrize(("axis", "right"), [("1", False), ("-1", True)])
def test_some_numbers_of_the_last_axis_are_compared_along_it(axis: str, right: bool) -> None:
    class Learner:
        model = nn.Sequential(perceptron(), nn.Unflatten(1, (2, 5)))

        def __init__(self) -> None:
            self.metric = compile_metric("def named(given, y):\n    return given[..., 3:].argmax(AXIS) == y\n")

    def compile_metric(text: str) -> Any:
        scope: dict[str, Any] = {}
        exec(compile(text.replace("AXIS", axis), "train.py", "exec"), scope)
        return scope["named"]

    text = """
        def named(given, y):
            return given[..., 3:].argmax(AXIS) == y

        class Learner:
            def predicted(self, x):
                return torch.cat([self.model(part) for part in x.split(20)])

            def judged(self, x, y):
                return self.metric(self.predicted(x), y)

        for x, y in loader:
            self.judged(x, y)
    """
    names = values() | {"self": Learner(), "model": Learner.model, "criterion": lambda given, _: given.square().mean()}
    assert list(found(textwrap.dedent(text).replace("AXIS", axis).lstrip(), names, [WRONG_AXIS])) == (
        [] if right else ["eval.wrong-axis"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("update", "evaluated", "right"),
    [
        ("pass", "evaluate(average)", False),
        ("average.update_parameters(model)", "evaluate(average)", True),
        ("pass", "evaluate(model)", True),
        ("follow(average, model)", "evaluate(average)", True),
        ("follow_state(average, model)", "evaluate(average)", True),
        ("torch.save({'average': average.state_dict()}, 'a.pt')", "evaluate(average)", False),
        ("targets = average(x)", "evaluate(average)", True),
    ],
)
def test_a_copy_that_is_evaluated_is_given_weights(update: str, evaluated: str, right: bool) -> None:
    text = textwrap.dedent(f"""
        def evaluate(net):
            net.eval()
            return [net(x) for x, y in val_loader]

        def follow(one, other):
            for a, b in zip(one.parameters(), other.parameters()):
                a.data.lerp_(b.data, 0.1)

        def follow_state(one, other):
            for a, b in zip(one.state_dict().values(), other.state_dict().values()):
                a.copy_(0.9 * a + 0.1 * b)

        average = torch.optim.swa_utils.AveragedModel(model)
        for epoch in range(5):
            for x, y in loader:
                criterion(model(x), y).backward()
                {update}
            {evaluated}
        """)
    names = values()
    names["model"] = perceptron()
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    names["average"] = torch.optim.swa_utils.AveragedModel(names["model"])
    assert (found(text, names, [EVALUATES_UNTRAINED]) == {}) is right


def test_phases_are_counted_each_by_itself() -> None:
    text = textwrap.dedent("""
        for phase in ["train", "val"]:
            hits = 0
            for x, y in loaders[phase]:
                hits += (model(x).argmax(1) == y).sum()
            print(hits / sizes[SIZE])
        for x, y in loader:
            model(x)
        """)
    names = values()
    loaders = {"train": names["loader"], "val": names["val_loader"]}
    names |= {"loaders": loaders, "sizes": {name: len(found.dataset) for name, found in loaders.items()}}
    assert found(text.replace("SIZE", "phase"), names, [WRONG_COUNT]) == {}
    assert list(found(text.replace("SIZE", '"train"'), names, [WRONG_COUNT])) == ["eval.wrong-count"]


def test_a_distributed_sampler_is_told_the_epoch() -> None:
    names = values()
    data = names["loader"].dataset
    names["loader"] = DataLoader(data, 32, sampler=DistributedSampler(data, num_replicas=1, rank=0))
    assert list(found(SCRIPT, names, [SAME_ORDER])) == ["data.same-order"]
    text = SCRIPT.replace("    model.train()", "    loader.sampler.set_epoch(epoch)\n    model.train()")
    assert found(text, names, [SAME_ORDER]) == {}


def test_a_distributed_sampler_of_processes_that_there_are_not() -> None:
    names = values()
    data = names["loader"].dataset
    names["loader"] = DataLoader(data, 32, sampler=DistributedSampler(data, num_replicas=4, rank=0))
    text = SCRIPT.replace("    model.train()", "    loader.sampler.set_epoch(epoch)\n    model.train()")
    assert "in one process" in found(text, names, [SAME_ORDER])["data.same-order"]
    assert found(f"torch.distributed.init_process_group('gloo')\n{text}", names, [SAME_ORDER]) == {}


def test_weights_that_grow_with_the_counts_are_named() -> None:
    names = values()
    y = torch.tensor([0] * 40 + [1] * 20 + [2] * 5)
    counts = torch.bincount(y, minlength=10).float()
    names["loader"] = DataLoader(TensorDataset(torch.randn(65, 1, 8, 8), y), 13, shuffle=True)
    names["criterion"] = nn.CrossEntropyLoss(weight=counts / counts.sum())
    assert list(found(SCRIPT, names, [CLASS_WEIGHTS])) == ["loss.class-weights"]
    names["criterion"] = nn.CrossEntropyLoss(weight=counts.sum() / (3 * counts.clamp(min=1)))
    assert found(SCRIPT, names, [CLASS_WEIGHTS]) == {}


@pytest.mark.parametrize(
    ("then", "right"),
    [("other.eval()", False), ("other.load_state_dict(model.state_dict())", True)],
)
def test_a_network_that_each_epoch_makes_anew_is_not_what_is_trained(then: str, right: bool) -> None:
    text = textwrap.dedent(f"""
        for epoch in range(5):
            for x, y in loader:
                criterion(model(x), y).backward()
            other = Sequential()
            {then}
            print(other(x))
        """)
    names = values()
    names["model"] = perceptron()
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    assert (found(text, names, [EVALUATES_UNTRAINED]) == {}) is right


BY_FUNCTION = """
for epoch in range(5):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    print(evaluate(model, val_loader))
def evaluate(net, data):
    net.eval()
    kept = [0.0, 0.0]
    with torch.no_grad():
        for x, y in data:
            kept = [kept[0] + float((net(x).argmax(1) == y).sum()), kept[1] + NUMBER]
    net.train()
    return kept[0] / kept[1]
"""


@pytest.mark.parametrize(("number", "wrong"), [("1", True), pytest.param("len(y)", False, marks=pytest.mark.slow)])
def test_an_evaluation_that_is_run_tells_what_it_divides_by(number: str, wrong: bool) -> None:
    text = BY_FUNCTION.replace("NUMBER", number)
    names = values() | {"val_loader": DataLoader(digits().dataset, 100)}
    exec(text[text.index("def evaluate") :], names)
    told = found(text, names, (WRONG_COUNT,))
    assert list(told) == ["eval.wrong-count"] * wrong


def test_an_accuracy_that_divides_by_the_usual_batch_is_told() -> None:
    def accuracy(output: torch.Tensor, target: torch.Tensor, batch: int) -> torch.Tensor:
        return 100 * (output.argmax(1) == target).float().sum() / batch

    written = "def accuracy(output, target):\n    return 100 * (output.argmax(1) == target).float().sum() / {}\n"
    for of, wrong in (("64", True), ("len(target)", False)):
        names = values() | {"accuracy": lambda o, t, of=of: accuracy(o, t, 64 if of == "64" else len(t))}
        told = found(written.format(of) + SCRIPT, names)
        assert told == ({"eval.wrong-count": told.get("eval.wrong-count")} if wrong else {})
        assert not wrong or "`len(labels)`" in told["eval.wrong-count"]


def source_of(text: str, **names: Any) -> ScriptSource:
    return ScriptSource({"script.py": ast.parse(textwrap.dedent(text))}, names, ("script.py", 1, 2), 5)


CLOSURE = """
for x, y in loader:
    def closure():
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        return loss
    optimizer.step(closure)
"""


@pytest.mark.parametrize(
    ("text", "most", "faulty"),
    [
        (CLOSURE, 5, False),
        (CLOSURE.replace("        optimizer.zero_grad()\n", ""), 5, True),
        (CLOSURE.replace("        optimizer.zero_grad()\n", ""), 1, False),
    ],
)
def test_a_closure_that_adds_gradients_up_is_named(text: str, most: int, faulty: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=most)
    setup = make_setup(model, digits(), optimizer=optimizer, source=source_of(text))
    with state_preserved(setup):
        said = list(MISSING_ZERO_GRAD.run(Evidence(setup, Clock(120.0))))
    assert [finding.where for finding in said] == ["line 3"] * faulty


EVALUATES = """
def evaluate(net, data):
    for x, y in data:
        correct += (net(x).argmax(1) == y).sum()
    return correct
val_acc = evaluate(model, train_loader)
"""


@pytest.mark.parametrize(
    ("more", "faulty"),
    [("", True), ("print(evaluate(model, val_loader))", False), ("for x, y in val_loader: x", False)],
)
def test_evaluation_of_the_training_data_is_named(more: str, faulty: bool) -> None:
    model, train, val = perceptron(), digits(), digits(100, 200)
    source = source_of(EVALUATES + more, model=model, train_loader=train, val_loader=val)
    setup = make_setup(model, train, val, source=source)
    with state_preserved(setup):
        said = list(SPLIT_OVERLAP.run(Evidence(setup, Clock(120.0))))
    assert [finding.code for finding in said] == ["data.split-overlap"] * faulty
    assert not faulty or said[0].remedy == "`val_loader` in place of `train_loader` there"


CALLBACK = """
class Stopping:
    def __init__(self, monitor="val_loss", patience=5, mode="min"):
        pass
"""


@pytest.mark.parametrize(
    ("made", "faulty"),
    [
        ("ModelCheckpoint(monitor='val_acc', mode='max')", False),
        ("ModelCheckpoint(monitor='val_loss')", False),
        ("ModelCheckpoint(monitor='val_acc', mode='min')", True),
        ("EarlyStopping(monitor='val_loss', mode='max')", True),
        ("Stopping('val_accuracy')", True),
        ("Stopping('val_loss')", False),
        ("TrainingArguments(metric_for_best_model='f1', greater_is_better=False)", True),
        ("TrainingArguments(metric_for_best_model='f1', greater_is_better=True)", False),
    ],
)
def test_callbacks_keep_the_best(made: str, faulty: bool) -> None:
    setup = make_setup(perceptron(), digits(), source=source_of(CALLBACK + made))
    with state_preserved(setup):
        said = list(WORST_KEPT.run(Evidence(setup, Clock(120.0))))
    assert [finding.code for finding in said] == ["eval.worst-kept"] * faulty


PRINTS = """
def test(net, data):
    correct = 0
    for x, y in data:
        correct += net(x).argmax(1, keepdim=True).eq(y{}).sum().item()
    n = len(data.dataset)
    print("Test set: Accuracy: {{}}/{{}} ({{:.0f}}%)".format(correct, n, 100 * correct / n))
test(model, val_loader)
"""


@pytest.mark.parametrize(("shaped", "faulty"), [(".view(-1, 1)", False), ("", True)])
def test_what_is_printed_as_an_accuracy_is_one(shaped: str, faulty: bool) -> None:
    model, train, val = perceptron(), digits(), digits(100, 200)
    names: dict[str, Any] = {"model": model, "val_loader": val}
    text = PRINTS.format(shaped)
    exec(text.rpartition("test(")[0], names)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    setup = make_setup(model, train, val, optimizer=optimizer, source=source_of(text, **names))
    with state_preserved(setup):
        said = list(WRONG_COUNT.run(Evidence(setup, Clock(120.0))))
    assert ["as an accuracy for a network with" in finding.measured for finding in said] == [True] * faulty


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("epochs", "faulty"), [(2, True), (40, False), (1, False)])
def test_a_training_that_ends_before_it_is_done(epochs: int, faulty: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    source = ScriptSource({"script.py": ast.parse("pass")}, {}, ("script.py", 1, 2), epochs)
    setup = make_setup(model, digits(64), digits(100, 200), optimizer=optimizer, source=source)
    with state_preserved(setup):
        said = list(UNDERFIT.run(Evidence(setup, Clock(120.0))))
    assert ["steps in all" in finding.measured for finding in said] == [True] * faulty


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("share = torch.distributions.Beta(alpha, alpha).sample().item()", True),
        ("share = torch.distributions.Beta(alpha, alpha).sample()", True),
        ("share = torch.distributions.Normal(outputs, 1.0).sample()", False),
    ],
)
def test_a_draw_that_no_network_gave_needs_no_way_back(line: str, right: bool) -> None:
    text = textwrap.dedent(f"""
        def blend(outputs, alpha):
            {line}
            return share
        for x, y in loader:
            outputs = model(x)
            share = blend(outputs, settings["mixup"])
            optimizer.zero_grad()
            criterion(outputs, y).backward()
            optimizer.step()
        """)
    names = values() | {"settings": {"mixup": 0.2}}
    assert (found(text, names, [GRAPH_DETACHED]) == {}) is right


@pytest.mark.parametrize(("sign", "right"), [("<", True), (">", False)])
def test_a_margin_by_which_an_epoch_has_to_be_better_is_none_of_the_best(sign: str, right: bool) -> None:
    text = SCRIPT.replace("if accuracy > best_accuracy:", f"if val_loss {sign} best_loss - delta:")
    text = text.replace("best_accuracy = accuracy", "best_loss = val_loss")
    assert (found(text, values(), [WORST_KEPT]) == {}) is right


@pytest.mark.parametrize("steps", [8, 400])
def test_a_cycle_that_no_step_of_the_loop_moves_is_named(steps: int) -> None:
    class Callbacks:
        pass

    holder = Callbacks()
    names = values()
    holder.each = [OneCycleLR(names["optimizer"], 0.1, steps)]
    Callbacks.__module__ = "__main__"
    names |= {"callbacks": holder, "scheduler": None}
    text = SCRIPT.replace("scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)", "cycle(OneCycleLR(optimizer))")
    text = text.replace("    scheduler.step()\n", "")
    assert list(found(text, names, [SCHEDULER_CALLS])) == ["optim.lr-schedule"] * (steps > 100)


@pytest.mark.parametrize("held", [True, False])
def test_a_second_network_with_an_optimizer_of_its_own_is_trained(held: bool) -> None:
    text = textwrap.dedent("""
        for x, y in loader:
            outputs = other(model(x))
            criterion(outputs, y).backward()
            optimizer.step()
        """)
    names = values() | {"other": nn.Linear(10, 10)}
    names["second"] = torch.optim.SGD((names["other"] if held else names["model"]).parameters(), lr=0.1)
    assert (found(text, names, [FROZEN_PARAMETERS]) == {}) is held
