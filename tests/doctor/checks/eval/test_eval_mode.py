"""`eval.mode`: is the network put into evaluation mode for evaluation, and back for training?"""

from __future__ import annotations

import ast
import copy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import asked, digits, perceptron, read
from for_checks.scripts import SCRIPT, codes_of_script, found, values
from striate.doctor.checks.eval.mode import MODE
from striate.doctor.setup.script_source import ScriptSource

VALIDATED = """
def validate(network, batches):
    classifier = network{mode}
    for x, y in batches:
        with torch.no_grad():
            outputs = classifier(x)
for epoch in range(5):
    model.train()
    for x, y in loader:
        criterion(model(x), y).backward()
    validate(model, val_loader)
"""


@pytest.mark.parametrize("mode", ["", ".eval()"])
def test_a_network_may_be_called_by_another_name(mode: str) -> None:
    assert list(found(VALIDATED.format(mode=mode), values(), [MODE])) == ["eval.mode"] * (not mode)


CLOSURES = """
def make_trainer(model):
    def epoch():
        {within}
        for x, y in loader:
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
    return epoch
def make_evaluator(model):
    def evaluate():
        model.eval()
        return [model(x) for x, y in val_loader]
    return evaluate
{before}
train_epoch, evaluate = make_trainer(model), make_evaluator(model)
for number in range(10):
    train_epoch()
    evaluate()
"""


@pytest.mark.parametrize(
    ("within", "before", "wrong"), [("model.train()", "pass", False), ("pass", "model.train()", True)]
)
def test_a_pass_begins_in_training_mode_by_whatever_name_it_is_called(within: str, before: str, wrong: bool) -> None:
    text = CLOSURES.format(within=within, before=before)
    assert list(found(text, values(), [MODE])) == ["eval.mode"] * wrong


HEAD_AFTERWARDS = """
def predict():
    model.eval()
    return [model(x) for x, y in val_loader]
for epoch in range(5):
    model.train()
    for x, y in loader:
        criterion(model(x), y).backward()
    predict()
for part in range(2):
    {evaluated}
    head_optimizer.step(closure)
"""


@pytest.mark.parametrize("evaluated", ["pass", "predict()"])
def test_only_evaluations_between_the_steps_of_the_examined_training_change_its_mode(evaluated: str) -> None:
    text = HEAD_AFTERWARDS.format(evaluated=evaluated)
    last = text.count("\n")
    source = ScriptSource(
        {"t.py": ast.parse(text)}, values(), ("t.py", last, last), None, calling=frozenset({("t.py", last)})
    )
    said = asked(MODE, values()["model"], digits(), source=source)
    assert [one.code for one in said] == ["eval.mode"] * (evaluated != "pass")


LEARNER = """
def one_epoch(loader, train):
    model.train({mode})
    with torch.set_grad_enabled(train):
        results = [criterion(model(x), y) for x, y in loader]
for x, y in loader:
    criterion(model(x), y).backward()
one_epoch(val_loader, False)
"""


@pytest.mark.parametrize(("mode", "wrong"), [("", True), ("train", False)])
def test_one_function_that_trains_and_evaluates_switches_the_mode(mode: str, wrong: bool) -> None:
    assert list(found(LEARNER.format(mode=mode), values(), [MODE])) == ["eval.mode"] * wrong


RUN_OF_PHASE = """
def run_epoch(batches, phase, steps=None):
    {mode}
    for x, y in batches:
        with torch.set_grad_enabled({switch}):
            loss = criterion(model(x), y)
        if phase == "train":
            loss.backward()
            optimizer.step()
for x, y in loader:
    criterion(model(x), y).backward()
run_epoch(loader, "train", optimizer)
run_epoch(loader, "statistics")
run_epoch(val_loader, "val")
run_epoch(test_loader, phase="test")
"""
_BOTH = "if phase in ('train', 'test'):\n        model.train()\n    else:\n        model.eval()"


@pytest.mark.parametrize("switch", ["phase == 'train'", "True", "steps is not None"])
@pytest.mark.parametrize(
    ("mode", "wrong"),
    [
        ("model.train(phase != 'val')", True),
        (_BOTH, True),
        ("model.train(phase == 'train')", False),
        (_BOTH.replace("'test'", "'statistics'"), False),
        ("model.train(phase != 'val')\n    if phase == 'test':\n        model.eval()", False),
    ],
)
def test_a_phase_without_gradients_is_not_in_training_mode(mode: str, switch: str, wrong: bool) -> None:
    assert list(found(RUN_OF_PHASE.format(mode=mode, switch=switch), values(), [MODE])) == ["eval.mode"] * wrong


PASSES = """
def run_pass(batches, optimizer=None):
    model.train()
    {then}
    for x, y in batches:
        loss = criterion(model(x), y)
        if optimizer:
            loss.backward()
            optimizer.step()
def export():
    model.eval()
for x, y in loader:
    criterion(model(x), y).backward()
run_pass(loader, optimizer)
run_pass({held})
export()
"""


@pytest.mark.parametrize(
    ("then", "held", "wrong"),
    [
        ("pass", "val_loader", True),
        ("if optimizer is None:\n        model.eval()", "val_loader", False),
        ("pass", "val_loader, optimizer", False),
        ("pass", "unlabeled", False),
    ],
)
def test_a_pass_without_an_optimizer_is_not_in_training_mode(then: str, held: str, wrong: bool) -> None:
    assert list(found(PASSES.format(then=then, held=held), values(), [MODE])) == ["eval.mode"] * wrong


LOOP_OF_PHASES = """
for epoch in range(3):
    for phase in ["train", "val"]:
        if {test}:
            model.train()
        else:
            model.eval()
        for x, y in loader:
            loss = criterion(model(x), y)
            if phase == "train":
                loss.backward()
"""


@pytest.mark.parametrize(("test", "wrong"), [("phase == 'train'", False), ("phase in ['train', 'val']", True)])
def test_each_phase_of_a_loop_has_its_mode(test: str, wrong: bool) -> None:
    assert list(found(LOOP_OF_PHASES.format(test=test), values(), [MODE])) == ["eval.mode"] * wrong


@pytest.mark.parametrize("of_teacher", [True, False])
def test_the_mode_of_a_teacher_is_its_own(of_teacher: bool) -> None:
    text = f"""
    {"teacher" if of_teacher else "model"}.eval()
    @torch.no_grad()
    def evaluate(net, val_loader):
        for x, y in val_loader:
            net(x).argmax(1)
    for epoch in range(5):
        model.train()
        for x, y in loader:
            train(x, y)
        evaluate(model, val_loader)
    """
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    names = {"model": model, "teacher": perceptron(), "val_loader": digits()}
    said = read(text, MODE, model, digits(), names=names)
    assert ["no code calls `.eval()`" in one.measured for one in said] == [True] * of_teacher


GRAPH = """
class Graph(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(self.lin(x.flatten(1)), 0.5, training=self.training)

for epoch in range(5):
    model.train()
    for x, y in loader:
        model(x)
    model.eval()
    with torch.no_grad():
        output = model(nodes)
    right = (output[idx_val].argmax(1) == labels[idx_val]).float().mean()
"""


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.lin(x.flatten(1)), 0.5, training=self.training)


@pytest.mark.parametrize("switched", [True, False])
def test_nodes_of_a_graph_are_evaluated_without_dropout(switched: bool) -> None:
    text = GRAPH if switched else GRAPH.replace("    model.eval()\n", "")
    names = values() | {"model": Graph()}
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    assert list(found(text, names, [MODE])) == ["eval.mode"] * (not switched)


@pytest.mark.parametrize("ends", [True, False])
def test_gradients_may_be_turned_off_for_each_batch(ends: bool) -> None:
    text = SCRIPT[: SCRIPT.index("    model.eval()")] + ("    model.eval()\n" if ends else "")
    text += "    for x, y in val_loader:\n        with torch.no_grad():\n            outputs = model(x)\n"
    assert list(found(text, values(), [MODE])) == ["eval.mode"] * (not ends)


@pytest.mark.parametrize(("ends", "now_and_then"), [(False, True), (True, True), (False, False)])
def test_what_runs_now_and_then_in_the_training_loop_is_evaluation(ends: bool, now_and_then: bool) -> None:
    call = "        if step % 100 == 0:\n            recall(model)\n" if now_and_then else "        recall(model)\n"
    text = SCRIPT[: SCRIPT.index("    model.eval()")] + call
    text += (
        f"@torch.no_grad()\ndef embed(net, images):\n    {'net.eval()' if ends else 'pass'}\n    return net(images)\n"
    )
    text += "def recall(net):\n    found = embed(net, images)\n    net.train()\n    return found\n"
    assert list(found(text, values(), [MODE])) == ["eval.mode"] * (now_and_then and not ends)


@pytest.mark.parametrize(
    ("first", "inside", "right"),
    [
        ("", "model(x)", False),
        ("model.eval()", "model(x)", True),
        ("", "model(torch.randn(4, 1, 8, 8))", True),
        ("model.train()", "model(x)", True),
    ],
)
def test_what_runs_over_data_in_each_epoch_is_an_evaluation(first: str, inside: str, right: bool) -> None:
    text = f"""
@torch.no_grad()
def reconstruct():
    {first or "pass"}
    return [{inside} for x, y in val_loader]

def export():
    model.eval()

for epoch in range(5):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    error = reconstruct()
export()
"""
    assert list(found(text, values(), [MODE])) == ["eval.mode"] * (not right)


@pytest.mark.parametrize("inside", ["model(x)", "model.encode(x)"])
def test_features_are_computed_in_evaluation_mode(inside: str) -> None:
    class Encoder(nn.Sequential):
        def encode(self, x: Tensor) -> Tensor:
            return x

    text = f"""
@torch.no_grad()
def extract():
    return [{inside} for x in images]

for epoch in range(5):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
features = extract()
"""
    names = values()
    model = Encoder(*names["model"])
    names |= {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    assert list(found(text, names, [MODE])) == ["eval.mode"]


@pytest.mark.parametrize(
    ("name", "inside", "right"),
    [
        ("predict", "model(image[None])", False),
        ("predict", "model.eval()(image[None])", True),
        ("predict", "model(torch.randn(1, 1, 8, 8))", True),  # what a generator makes of noise
        ("show_samples", "model(image[None])", True),
    ],
)
def test_a_function_may_predict_one_image_at_a_time(name: str, inside: str, right: bool) -> None:
    text = f"""
model.train()
for epoch in range(5):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

def {name}(image):
    with torch.no_grad():
        return {inside}.argmax(1)

predictions = [{name}(image) for image in images]
"""
    assert list(found(text, values(), [MODE])) == ["eval.mode"] * (not right)


OF_ALL_NODES = """
class Graph(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(self.lin(x.flatten(1)), 0.5, training=self.training)

def train(epoch):
    model.train()
    for x, y in loader:
        output = model(x)
    if not fast:
        model.eval()
        with torch.no_grad():
            output = model(nodes)
    loss_val = loss_fn(output[idx_val], labels[idx_val])

def test():
    model.eval()
    return model(nodes)[idx_test]

for epoch in range(5):
    train(epoch)
test()
"""


@pytest.mark.parametrize("switched", ["before", "never", "elsewhere"])
def test_a_function_that_trains_and_validates_switches_modes_though_another_does(switched: str) -> None:
    text = OF_ALL_NODES if switched == "before" else OF_ALL_NODES.replace("        model.eval()\n", "", 1)
    if switched == "elsewhere":  # who calls it has the mode, and nothing here puts the network into another
        text = text.replace("    model.train()\n", "")
    names = values() | {"model": Graph()}
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    assert list(found(text, names, [MODE])) == ["eval.mode"] * (switched == "never")


@pytest.mark.parametrize(("students", "wrong"), [("student", False), ("teacher", True)])
def test_evaluation_is_of_several_networks(students: str, wrong: bool) -> None:
    text = f"""
    def fit(model):
        for x, y in loader:
            loss = criterion(model(x), y)
    @torch.no_grad()
    def infer(network, x):
        network.eval()
        return network(x)
    infer(teacher, test_x)
    infer({students}, test_x)
    model.train()
    for x, y in test_loader:
        with torch.no_grad():
            model(x)
    """
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    names = {
        "model": model,
        "student": model,
        "teacher": perceptron(),
        "test_loader": digits(),
        "network": perceptron(),
    }
    said = read(text, MODE, model, digits(), names=names)
    assert ["no code calls `.eval()`" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize(("before", "wrong"), [("pass", True), ("self.net.eval()", False)])
def test_evaluation_in_a_comprehension_over_parts(before: str, wrong: bool) -> None:
    text = f"""
    class Model:
        def call(self, x):
            return self.net(x)
        @torch.no_grad()
        def evaluate(self, x, y):
            {before}
            return torch.cat([self.call(part) for part in x.split(8)])
        def fit(self, loader, held):
            for epoch in range(5):
                self.net.train()
                for x, y in loader:
                    train(x, y)
                self.evaluate(*held)
    wrapped.fit(loader, held)
    """
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    wrapped = type("Model", (SimpleNamespace,), {})(net=network)
    said = read(text, MODE, network, digits(), names={"self": wrapped, "wrapped": wrapped, "held": (None, None)})
    assert ["no code calls `.eval()`" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize("of_another", [True, False])
def test_a_probe_that_is_trained_afterwards_ends_in_evaluation_mode(of_another: bool) -> None:
    text = f"""
    def probe(x, y, decay):
        classifier = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2))
        for step in range(100):
            criterion(classifier(x), y).backward()
        return classifier.eval()
    def score(network, batches):
        {"pass" if of_another else "network.eval()"}
        with torch.no_grad():
            return [network(x) for x, y in batches]
    for epoch in range(5):
        for x, y in loader:
            train(x, y)
        {"pass" if of_another else "score(model, val_loader)"}
    for decay in (0.0, 0.1, 1.0):
        fitted = probe(x, y, decay)
    """
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    said = read(text, MODE, network, digits(), names={"val_loader": digits()})
    assert [one.measured.startswith("`network.eval()` runs repeatedly") for one in said] == [True] * (not of_another)


@pytest.mark.parametrize("anew", [True, False])
def test_a_network_that_is_made_anew_begins_in_training_mode(anew: bool) -> None:
    text = f"""
    def fit(decay{"" if anew else ", model"}):
        {"model = build()" if anew else "model = model.float()"}
        for x, y in loader:
            train(x, y)
        return model.eval()
    def build():
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    for decay in (0.0, 0.1, 1.0):
        fit(decay{"" if anew else ", model"})
    """
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    said = read(text, MODE, network, digits())
    assert ["no `.train()` after it" in one.measured for one in said] == [True] * (not anew)


@pytest.mark.parametrize(("again", "wrong"), [("pass", True), ("model.train()", False)])
def test_the_training_before_has_its_own_mode(again: str, wrong: bool) -> None:
    text = f"""
    def pretrain(model, first):
        for epoch in range(5):
            model.train()
            for x in first:
                model(x).sum().backward()
    def evaluate(network, val_loader):
        network.eval()
        for x, y in val_loader:
            network(x)
    pretrain(model, first)
    model.train()
    for epoch in range(5):
        {again}
        for x, y in loader:
            model(x).sum().backward()
        evaluate(model, val_loader)
    """
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    said = read(text, MODE, model, digits(), names={"model": model, "first": digits(), "val_loader": digits()})
    assert ["no `.train()` after it" in one.measured for one in said] == [True] * wrong


FITTED_TWICE = """
def train(model, loader):
    model.train()
    for x, y in loader:
        loss(model(x), y).backward()

@torch.no_grad()
def evaluate(model, loader):
    {evaluated}.eval()
    for x, y in loader:
        model(x)

def fit(model):
    for epoch in range(3):
        train(model, train_loader)
        evaluate(model, val_loader)

fit(teacher)
fit(student)
"""


@pytest.mark.parametrize(("evaluated", "wrong"), [("model", False), ("teacher", True)])
def test_what_a_function_is_given_is_that_of_the_call_that_runs(evaluated: str, wrong: bool) -> None:
    student = nn.Sequential(perceptron(16), nn.Dropout(0.1))
    names = {"teacher": perceptron(), "student": student, "model": student}
    calling = frozenset({("t.py", 19), ("t.py", 15)})
    tree = ast.parse(FITTED_TWICE.format(evaluated=evaluated))
    source = ScriptSource({"t.py": tree}, names, ("t.py", 4, 5), 3, calling=calling)
    found = asked(MODE, student, digits(), source=source)
    assert ["no code calls `.eval()`" in one.measured for one in found] == [True] * wrong


@pytest.mark.parametrize("average", [False, True])
def test_an_average_is_in_evaluation_mode_from_its_beginning(average: bool) -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model = nn.Sequential(perceptron(), nn.Dropout(0.1))
            self.average = copy.deepcopy(self.model).eval()

    trainer = Trainer()
    text = f"""
    class Trainer:
        def __init__(self, model):
            self.average = copy.deepcopy(model).eval()
        @torch.no_grad()
        def validate(self):
            model = self.{"average" if average else "model"}
            for x, y in val_loader:
                right += (model(x).argmax(1) == y).sum()
        def fit(self):
            for epoch in range(5):
                self.model.train()
                for x, y in loader:
                    step(x, y)
                self.validate()
    """
    said = read(text, MODE, trainer.model, digits(), names={"self": trainer, "val_loader": digits()})
    assert len(said) == (not average)


PHASES = """
for epoch in range(5):
    for phase in ["train", "val"]:
        MODE
        for x, y in loader:
            outputs = model(x)
model.eval()
"""


@pytest.mark.parametrize(
    ("mode", "right"),
    [
        ("model.train()", False),
        ("model.train() if phase == 'train' else model.eval()", True),
        ("model.train(phase == 'train')", True),
    ],
)
def test_phases_have_modes_of_their_own(mode: str, right: bool) -> None:
    assert codes_of_script(PHASES.replace("MODE", mode), values(), MODE) == ["eval.mode"] * (not right)


BACK = """
for epoch in range(5):
    for x, y in loader:
        criterion(model(x), y).backward()
for epoch in range(5):
    model.eval()
    BEHIND
"""


@pytest.mark.parametrize(
    ("frozen", "behind", "right"),
    [(False, "model(x)", False), (True, "model(x)", True), (False, "criterion(net(x), y).backward()", True)],
)
def test_the_evaluation_mode_of_what_is_not_trained_may_stay(frozen: bool, behind: str, right: bool) -> None:
    names = values()
    names["model"] = nn.Sequential(nn.BatchNorm2d(1).requires_grad_(not frozen), perceptron())
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), 0.1)
    text = BACK.replace("BEHIND", behind)
    assert codes_of_script(text, names, MODE) == ["eval.mode"] * (not right)


@pytest.mark.parametrize(
    ("within", "before", "right"), [("", "", False), ("model.eval()", "", True), ("", "model.eval()", True)]
)
def test_an_evaluation_ends_the_training_mode(within: str, before: str, right: bool) -> None:
    text = f"""
        @torch.no_grad()
        def estimate_loss():
            {within}
            return criterion(model(x), y)

        for epoch in range(5):
            for x, y in loader:
                loss = criterion(model(x), y)
            {before}
            print(estimate_loss())
            model.train()
        model.eval()
        """
    assert codes_of_script(text, values(), MODE) == ["eval.mode"] * (not right)


@pytest.mark.parametrize("ends", [True, False])
def test_a_function_without_gradients_runs_in_evaluation_mode(ends: bool) -> None:
    text = SCRIPT[: SCRIPT.index("    model.eval()")] + "    embed(model, images)\n"
    text += (
        f"@torch.no_grad()\ndef embed(net, images):\n    {'net.eval()' if ends else 'pass'}\n    return net(images)\n"
    )
    assert codes_of_script(text, values(), MODE) == ["eval.mode"] * (not ends)
