"""`eval.wrong-count`: is a metric of all samples divided by their number?"""

from __future__ import annotations

import ast
import textwrap
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from for_checks.asked import adam, asked, digits, perceptron, read, stepped
from for_checks.claims import Pooled, codes_of_graphs, graphs_of_kinds
from for_checks.graphs import OfNodes, behind_each_other, loaded_graphs, step_of_graphs
from for_checks.scripts import SCRIPT, codes_of_script, found, found_in_library, source_of, values
from striate.doctor.checks.eval.counts.wrong_count import WRONG_COUNT
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.script.library_loop import _logged_by_lightning
from striate.doctor.setup.library_training import LibraryTraining
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup

SQUARED_ERROR = "error = F.mse_loss(model(x), y)"


@pytest.mark.parametrize(
    ("formula", "largest", "wrong"),
    [
        ("10 * torch.log10(255 ** 2 / error)", 1, True),
        ("20 * math.log10(255.0) - 10 * math.log10(error)", 1, True),
        ("-10 * torch.log10(error / 65025)", 1, True),
        ("psnr(error)", 1, True),
        ("psnr(error, 255.0, 3.0)", 1, False),
        ("10 * torch.log10(1.0 / error)", 1, False),
        ("10 * torch.log10(255 ** 2 / error)", 255, False),
        ("10 * torch.log10(255 ** 2 / F.mse_loss(255 * model(x), 255 * y))", 1, False),
    ],
)
def test_the_peak_is_that_of_the_images(formula: str, largest: float, wrong: bool) -> None:
    text = f"""
    def psnr(error, peak=255.0, *more):
        return 10 * torch.log10(peak ** 2 / error)

    def evaluate(model, batches):
        for x, y in batches:
            {SQUARED_ERROR}
            print({formula})

    for x, y in loader:
        step(x, y)
    """
    if "psnr" not in formula:
        text = text[text.index("    def evaluate") :]
    tree = ast.parse(textwrap.dedent(text))
    lines = len(text.splitlines())
    source = ScriptSource({"s.py": tree}, {}, ("s.py", lines - 2, lines - 1), 5)
    images = largest * torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[0, 0, 0, 0] = largest
    loader = DataLoader(TensorDataset(images, images), 16)
    network = nn.Conv2d(1, 1, 3, padding=1)
    options = {"loss": functional.mse_loss, "val": loader, "source": source}
    found = asked(WRONG_COUNT, network, loader, optimizer=lambda p: torch.optim.Adam(p), **options)
    assert ["peak of bytes" in one.measured for one in found] == [True] * wrong


class Digits(nn.Module):
    """As a LightningModule. `share(right)`: what it logs as an accuracy."""

    def __init__(self, share: Any) -> None:
        super().__init__()
        self.net, self.share = perceptron(), share

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)

    def validation_step(self, batch: Any, _: int) -> None:
        right = self(batch[0]).argmax(1) == batch[1]
        self.log_dict({"val_loss": torch.tensor(0.5), "val_acc": self.share(right)})  # type: ignore[operator]

    def on_validation_epoch_start(self) -> None:
        self.seen = 0

    def on_validation_epoch_end(self) -> None:
        pass


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("share", "faulty"),
    [
        (lambda right: right.float().mean(), False),
        (lambda right: 100 * right.float().mean(), False),
        (lambda right: right.sum() / 32, True),
        (lambda right: 1 - right.float().mean(), True),
    ],
)
def test_an_accuracy_that_lightning_logs_is_held_against_the_predictions(share: Any, faulty: bool) -> None:
    library = LibraryTraining("Lightning's Trainer", 5, evaluate=_logged_by_lightning)
    said = found_in_library(Digits(share), WRONG_COUNT, "trainer.fit(model)", {}, library)
    assert [finding.code for finding in said] == ["eval.wrong-count"] * faulty
    assert not faulty or "`val_acc` is" in said[0].measured


def test_what_writes_is_not_evaluated_a_second_time() -> None:
    library = LibraryTraining("Lightning's Trainer", 5, evaluate=_logged_by_lightning)
    text = "class Net:\n    def validation_step(self, batch):\n        torch.save(batch, 'x')\ntrainer.fit(model)"
    with pytest.raises(NoEvidence, match="writes"):
        found_in_library(Digits(lambda right: right.sum()), WRONG_COUNT, text, {}, library)


@pytest.mark.parametrize(("made", "wrong"), [("mean()", True), ("sum()", False)])
def test_means_of_batches_divided_by_the_samples_that_a_loop_counts(made: str, wrong: bool) -> None:
    text = f"""
def deviance(model, batches):
    total, count = 0.0, 0
    for x, y in batches:
        total += (model(x) - y).abs().{made}.item()
        count += y.size(0)
    return total / count
print(deviance(model, val_loader))
"""
    assert list(found(SCRIPT + text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * wrong


RANKS = """
def evaluate(net, data):
    found = []
    with torch.no_grad():
        for x, y in data:
            items = 10 + torch.arange(len(x))
            best = torch.topk(net(x).flatten(), 2).indices
            found.append(float(10 + int(y.argmax()) in ({of}).tolist()))
    return {{"{name}": sum(found) / len(found)}}
"""


EVALUATING_LOOP = """
for epoch in range(5):
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
    {call}
"""


def codes_of(function: str, call: str, names: dict[str, Any]) -> list[str]:
    text = textwrap.dedent(function)
    exec(text, names)
    return list(found(text + EVALUATING_LOOP.format(call=call), names, [WRONG_COUNT]))


def names_of(model: nn.Module, train: Any, val: Any, loss: Any, lr: float = 0.1) -> dict[str, Any]:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    names = {"model": model, "loader": train, "val_loader": val, "criterion": loss, "optimizer": optimizer}
    return {**names, "torch": torch, "nn": nn}


@pytest.mark.parametrize(
    ("best", "name", "wrong"),
    [("items[best]", "HR@2", False), ("best", "HR@2", True), ("best", "share", False)],
)
def test_a_perfect_network_finds_the_right_candidate(best: str, name: str, wrong: bool) -> None:
    x = torch.randn(320, 6, generator=torch.Generator().manual_seed(0))
    scores = x[:, :1].reshape(40, 8)
    y = (scores == scores.amax(1, keepdim=True)).float().reshape(320, 1)
    parts = (TensorDataset(x[a:b], y[a:b]) for a, b in ((0, 160), (160, 320)))
    loaders = [DataLoader(part, size) for part, size in zip(parts, (16, 8), strict=True)]
    names = names_of(nn.Linear(6, 1), *loaders, nn.BCEWithLogitsLoss(pos_weight=torch.tensor(7.0)))
    text = RANKS.format(of=best, name=name)
    assert codes_of(text, "found = evaluate(model, val_loader)", names) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize("below", ["num_graphs", "x.size(0)"])
def test_right_graphs_are_divided_by_nodes(below: str) -> None:
    text = f"""
def test(model, loader):
    right, total = 0, 0
    for data in loader:
        right += int((model(data).argmax(1) == data.y).sum())
        total += data.{below}
    return right / total
for data in train:
    pass
print(test(model, val))
"""
    tree, model = ast.parse(text), Pooled()
    val: Any = DataLoader(graphs_of_kinds([0, 1, 2], 2), None)  # type: ignore[arg-type]
    names: dict[str, Any] = {"model": model, "val": val}
    exec(compile(ast.Module(tree.body[:1], []), "a.py", "exec"), names)
    source = ScriptSource({"a.py": tree}, names, ("a.py", 8, 9), 1)
    said = codes_of_graphs(WRONG_COUNT, [0, 1, 2], model=model, val=val, source=source)
    assert said == ["eval.wrong-count"] * (below != "num_graphs")


def test_the_training_loop_counts_the_samples_of_its_batches() -> None:
    text = SCRIPT.replace(
        "        optimizer.zero_grad()\n        loss",
        "        optimizer.zero_grad()\n        hits += (model(x).argmax(1) == y).sum()\n"
        "        seen += len(y)\n        loss",
    )
    text = text.replace("    model.eval()\n", "    print(hits / seen)\n    model.eval()\n")
    x, y = digits(most=650).dataset.tensors  # type: ignore[attr-defined]
    names = values() | {"loader": DataLoader(TensorDataset(x, y), 32, shuffle=True), "y": y[:32], "x": x[:32]}
    assert not found(text, names, [WRONG_COUNT])


@pytest.mark.parametrize(("counted", "wrong"), [("loader", True), ("val_loader", False)])
def test_a_count_is_divided_by_a_number_that_is_converted(counted: str, wrong: bool) -> None:
    text = SCRIPT.replace("accuracy = correct / total", f"accuracy = correct / float(len({counted}.dataset))")
    text = text.replace("            total += len(y)\n", "")
    assert list(found(text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * wrong


OVERLAP = """
def evaluate(net, data):
    counts = torch.zeros(3, 3, dtype=torch.long)
    with torch.no_grad():
        for x, y in data:
            counts += torch.bincount((3 * y + {told}.argmax(1)).flatten(), minlength=9).reshape(3, 3)
    hits = counts.diag().float()
    return (hits / (counts.sum(0) + counts.sum(1){less})).mean().item()
"""


@pytest.mark.parametrize(
    ("told", "less", "wrong"),
    [
        ("net(x)", "", True),
        ("net(x)", " - hits", False),
        ("(net(x) + net(x.flip(-1)).flip(-1))", " - hits", False),  # a mirror image as well
    ],
)
def test_masks_that_are_mostly_background(told: str, less: str, wrong: bool) -> None:
    """A network that has learned to name the rest too often is hardly more often right than one that never does."""
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = ((x[:, 0] > 1.3).long() + (x[:, 0] > 1.8)).long()
    train, val = (DataLoader(TensorDataset(x[a:b], y[a:b]), 16) for a, b in ((0, 64), (64, 96)))
    weighed = nn.CrossEntropyLoss(torch.tensor([0.1, 1.0, 1.0]))
    names: dict[str, Any] = names_of(nn.Conv2d(1, 3, 1), train, val, weighed)
    call = "score = evaluate(model, val_loader)\n    print(f'mean IoU {score:.3f}')"
    assert codes_of(OVERLAP.format(told=told, less=less), call, names) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize(
    ("count", "wrong"),
    [
        ("len(val_loader) * val_loader.batch_size", True),
        ("len(val_loader.dataset)", False),
        ("len(val_loader.dataset) * 3", False),  # three labels of each sample are counted
        ("3 * 61", False),
    ],
)
def test_a_count_is_divided_by_what_a_name_stands_for(count: str, wrong: bool) -> None:
    text = SCRIPT.replace("accuracy = correct / total", f"count = {count}\n    accuracy = correct / count")
    text = text.replace("            total += len(y)\n", "")
    assert codes_of_script(text, values(), WRONG_COUNT) == ["eval.wrong-count"] * wrong


def test_a_number_in_the_code_is_never_a_tensor() -> None:
    text = SCRIPT + "\ndef accuracy_of(out, y):\n    pred = out.argmax(1)\n    return (pred == y).float().mean()\n"
    names = values() | {"pred": torch.arange(7), "y": torch.arange(3), "out": torch.rand(7, 3)}
    assert codes_of_script(text, names, WRONG_COUNT) == []


@pytest.mark.parametrize(
    ("share", "wrong"),
    [("sum() / len(y)", True), ("sum() / mask.sum()", False), ("float().mean()", False)],
)
def test_an_accuracy_of_a_part_of_the_nodes_is_not_divided_by_all(share: str, wrong: bool) -> None:
    numbers = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (60,), generator=numbers)
    x, train = torch.randn(60, 5, generator=numbers), torch.arange(60) < 20
    model = nn.Linear(5, 3)
    names: dict[str, Any] = {"x": x, "y": y, "train_mask": train, "val_mask": torch.arange(60) > 40, "model": model}
    script = f"""
def test():
    right = model(x).argmax(1) == y
    return [float(right[mask].{share}) for mask in (train_mask, val_mask)]
for epoch in range(5):
    step(model, (x, y), optimizer, criterion)
    train_acc, val_acc = test()
"""
    exec(script.split("for epoch")[0], names)
    source = ScriptSource({"train.py": ast.parse(script)}, names, ("train.py", 5, 6), 5)
    found = asked(WRONG_COUNT, model, [(x, y)] * 3, source=source)
    assert [f.code for f in found] == ["eval.wrong-count"] * wrong


LOOP = "for x, y in loader:\n    pass\n"


VALIDATE = """
def validate(self):
    dl, sums = self.valid, [0.0] * len(self.metrics)
    for xb, yb in dl:
        preds = self.model(xb)
        sums = [s + m(preds, yb) for s, m in zip(sums, self.metrics)]
    return [s / (NUMBER) for s in sums]
"""


@pytest.mark.parametrize(
    ("number", "samples", "wrong"),
    [("len(dl) * dl.batch_size", 100, True), ("len(dl) * dl.batch_size", 96, False), ("len(dl.dataset)", 100, False)],
)
def test_metrics_in_a_list_are_divided_by_whole_batches(number: str, samples: int, wrong: bool) -> None:
    valid = DataLoader(TensorDataset(torch.zeros(samples, 1, 8, 8), torch.zeros(samples).long()), 32)
    names = {"self": SimpleNamespace(valid=valid, metrics=[len], model=None)}
    said = read(VALIDATE.replace("NUMBER", number) + LOOP, WRONG_COUNT, perceptron(), digits(), names=names)
    assert [one.code for one in said] == ["eval.wrong-count"] * wrong


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("divisor", "right"), [("n", False), ("(n + 1)", False), ("total", True), ("(n * len(y))", True)]
)
def test_what_enumerate_counts_are_batches(divisor: str, right: bool) -> None:
    text = SCRIPT.replace("for x, y in val_loader", "for n, (x, y) in enumerate(batches(), 1)")
    text = text.replace("accuracy = correct / total", f"accuracy = correct / {divisor}")
    assert list(found(text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * (not right)
    one_by_one = text.replace("batches()", "samples")
    assert not found(one_by_one, values() | {"samples": TensorDataset(torch.zeros(61, 1, 8, 8))}, [WRONG_COUNT])


@pytest.mark.parametrize(("step", "divisor", "right"), [("16", "n", False), ("16", "total", True), ("1", "n", True)])
def test_slices_are_batches(step: str, divisor: str, right: bool) -> None:
    text = SCRIPT.replace("for x, y in val_loader:", f"for i in range(0, 61, {step}):\n            x, y = X[i], Y[i]")
    text = text.replace("            total += len(y)\n", "            total += len(y)\n            n += 1\n")
    text = text.replace("accuracy = correct / total", f"accuracy = correct / {divisor}")
    assert list(found(text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * (not right)


@pytest.mark.parametrize(("returned", "right"), [("1 - score", True), ("0 * score", False)])
def test_what_is_taken_from_one_is_a_loss(returned: str, right: bool) -> None:
    text = f"def soft_dice(out, y):\n    score = (out.argmax(1) == y).float().mean()\n    return {returned}\n"
    names = values()
    names["val_loader"] = names["loader"]  # a score of classes is asked only where each occurs
    exec(text, names)
    assert list(found(text + SCRIPT, names, [WRONG_COUNT])) == ["eval.wrong-count"] * (not right)


EVALUATED = """
def evaluate(model, batches):
    correct, total = 0, 0
    for nodes, owner, y in batches:
        correct += (model(nodes, owner).argmax(dim=1) == y).sum().item()
        total += len({counted})
    return correct / total

for epoch in range(5):
    for nodes, owner, y in loader:
        step(nodes, owner, y)
    shown = evaluate(model, val_loader)
"""


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("counted", "right"), [("nodes", False), ("y", True)])
def test_graphs_are_counted_by_their_labels(counted: str, right: bool) -> None:
    text, names = EVALUATED.format(counted=counted), dict[str, Any]()
    exec(text[: text.index("for epoch")], names)
    train, val = (
        DataLoader(loaded_graphs(count, seed), 25, collate_fn=behind_each_other) for count, seed in ((100, 0), (300, 1))
    )
    model = OfNodes()
    names |= {"model": model, "val_loader": val}
    options = {"loss": nn.CrossEntropyLoss(), "optimizer": adam, "step": step_of_graphs, "val": val, "names": names}
    found = read(text, WRONG_COUNT, model, train, **options)
    assert ["the number of nodes" in one.measured for one in found] == [True] * (not right)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("return ((p == y) & known).sum() / known.sum()", False),
        ("return ((p == y) & known).sum() / y.numel()", True),
        ("return (p[..., :-1] == y[..., 1:]).sum() / known[..., 1:].sum()", False),
    ],
)
def test_an_accuracy_that_knows_padding_does_not_count_it(line: str, wrong: bool) -> None:
    text = f"def accuracy(outputs, y):\n    p, known = outputs.argmax(-1), y != -100\n    {line}\n"
    names = values()
    exec(text, names)
    assert codes_of_script(text + "for x, y in loader:\n    pass\n", names, WRONG_COUNT) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize(("whole", "wrong"), [("loader", True), ("val_loader", False)])
def test_hits_among_the_first_few_are_a_share_of_those_asked_for(whole: str, wrong: bool) -> None:
    text = SCRIPT.replace("(predicted == y).sum()", "outputs.topk(3, dim=1).indices.eq(y[:, None]).any(1).sum()")
    text = text.replace("accuracy = correct / total", f"accuracy = correct / len({whole}.dataset)")
    assert codes_of_script(text, values(), WRONG_COUNT) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize(("below", "wrong"), [("(len(batches) * 64)", True), ("len(batches.dataset)", False)])
def test_rows_that_are_right_in_all_places(below: str, wrong: bool) -> None:
    """In batches that Accelerate has prepared, whose sampler alone knows their size."""
    text = f"""
    def evaluate(batches):
        hits = 0
        for x, y in batches:
            right = (model(x) == y) | (y == 0)
            hits += right.all(dim=1).sum().item()
        return hits / {below}
    for x, y in loader:
        pass
    evaluate(val_loader)
    """
    data = TensorDataset(torch.randn(100, 1, 8, 8), torch.zeros(100, 3))
    by_rows = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(data), 64, drop_last=False)
    names = {"model": perceptron(), "val_loader": DataLoader(data, batch_sampler=by_rows)}
    said = read(text, WRONG_COUNT, names["model"], digits(), names=names)
    assert ["times their size, of which the last is smaller" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize(("by", "wrong"), [("len(val_loader)", True), ("total", False)])
def test_hits_among_the_best_are_counted(by: str, wrong: bool) -> None:
    text = SCRIPT.replace("correct / total", f"correct / {by}")
    line = next(line for line in text.splitlines() if "correct +=" in line)
    indent = line[: len(line) - len(line.lstrip())]
    among = "hit = (model(x).topk(2, dim=1).indices == y.unsqueeze(1)).any(dim=1)"
    text = text.replace(line, f"{indent}{among}\n{indent}correct += int(hit.sum())")
    assert list(found(text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize("squares", ["((p - t) ** 2).sum() / ((t - t.mean()) ** 2).sum()", "(p - t).square().mean()"])
def test_the_share_that_is_explained_is_taken_from_one(squares: str) -> None:
    """`1 - …` is a loss where a score is taken from it, and a score where an error is."""
    text = f"def r2(p, t):\n    return 1 - {squares}\n\nfor x, y in loader:\n    step(x, y)\n"
    names = dict[str, Any]()
    exec(text.split("\n\n")[0], names)
    source = ScriptSource({"s.py": ast.parse(text)}, names, ("s.py", 4, 5), 5)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 16)
    found = list[Any]()
    with suppress(NoEvidence):
        found = asked(WRONG_COUNT, nn.Linear(4, 1), loader, loss=functional.mse_loss, val=loader, source=source)
    assert found == []


EVALUATION = """
def validate(net, data):
    net.{}()
    correct = 0
    for x, y in data:
        correct += net(x).argmax(1, keepdim=True).eq(y{}).sum().item()
    n = len(data.dataset)
    print("Accuracy: {{}}/{{}} ({{:.0f}}%)".format(correct, n, 100 * correct / n))
validate(model, val_loader)
"""


@pytest.mark.parametrize(
    ("mode", "shaped", "dropped", "wrong"),
    [
        ("train", ".view(-1, 1)", 0.9, False),
        ("eval", "", 0.9, True),
        ("train", "", 0.0, True),
    ],
)
def test_a_count_of_what_dropout_lets_through_is_no_wrong_count(
    mode: str, shaped: str, dropped: float, wrong: bool
) -> None:
    model = perceptron()
    model.insert(3, nn.Dropout(dropped))
    val = digits(100, 200)
    names: dict[str, Any] = {"model": model, "val_loader": val}
    text = EVALUATION.format(mode, shaped)
    exec(text.rpartition("validate(")[0], names)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    said = asked(WRONG_COUNT, model, digits(), val=val, optimizer=optimizer, source=source_of(text, **names))
    assert ["as an accuracy for a network with" in finding.measured for finding in said] == [True] * wrong


COUNTED = """
class Net:
    def {where}(self):
        {zero}
    def validation_step(self, batch, _):
        self.right += (self(batch[0]).argmax(1) == batch[1]).sum()
    def on_validation_epoch_end(self):
        print(self.right / self.size)
trainer.fit(model)
"""


@pytest.mark.parametrize(
    ("where", "zero", "wrong"),
    [
        ("on_fit_start", "self.right = 0", True),
        ("on_validation_epoch_start", "self.right = 0", False),
        ("on_validation_epoch_start", "self.right.zero_()", False),
    ],
)
def test_a_count_begins_anew_in_each_validation(where: str, zero: str, wrong: bool) -> None:
    library = LibraryTraining("Lightning's Trainer", 5)
    with suppress(NoEvidence):
        found = found_in_library(perceptron(), WRONG_COUNT, COUNTED.format(where=where, zero=zero), {}, library)
        assert [f.code for f in found] == ["eval.wrong-count"] * wrong
        return
    assert not wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("added", "by", "right"),
    [
        ("criterion(outputs, y).item()", "len(val_loader.dataset)", False),
        ("F.cross_entropy(outputs, y)", "len(val_loader.dataset)", False),
        ("(outputs.argmax(1) - y).abs().float().mean().item()", "len(val_loader.dataset)", False),
        ("F.cross_entropy(outputs, y, reduction='sum')", "len(val_loader.dataset)", True),
        ("criterion(outputs, y).item() * len(y)", "len(val_loader.dataset)", True),
        ("criterion(outputs, y).item()", "len(val_loader)", True),
    ],
)
def test_mean_losses_are_divided_by_their_number(added: str, by: str, right: bool) -> None:
    text = SCRIPT.replace(
        "            total += len(y)\n", f"            total += len(y)\n            lost += {added}\n"
    )
    text = text.replace("    correct, total = 0, 0\n", "    correct, total, lost = 0, 0, 0\n")
    text = text.replace("    accuracy = correct / total\n", f"    accuracy = correct / total\n    lost /= {by}\n")
    assert list(found(text, values() | {"F": functional}, [WRONG_COUNT])) == ["eval.wrong-count"] * (not right)


VOIDS = """
def evaluate(net, data):
    right = counted = 0
    with torch.no_grad():
        for x, y in data:
            right += int((net(x).argmax(1) == y).sum())
            counted += int(({counted}).sum())
    return {{"acc": right / counted}}
"""


@pytest.mark.parametrize(("counted", "wrong"), [("y != 2", False), ("y >= 0", False), ("y == 1", True)])
@pytest.mark.parametrize("void", [255, 2])
def test_an_accuracy_may_leave_out_what_the_loss_ignores(counted: str, wrong: bool, void: int) -> None:
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    y[:, ::3] = void
    val = DataLoader(TensorDataset(x[64:], y[64:]), 16)
    names = names_of(
        nn.Conv2d(1, 3, 1), DataLoader(TensorDataset(x[:64], y[:64]), 16), val, nn.CrossEntropyLoss(ignore_index=void)
    )
    text = VOIDS.format(counted=counted.replace("2", str(void)))
    assert codes_of(text, "score = evaluate(model, val_loader)", names) == ["eval.wrong-count"] * wrong


def classes() -> dict[str, Any]:
    x, y = next(iter(DataLoader(digits().dataset, 600)))
    val = DataLoader(TensorDataset(x[400:], y[400:]), 100)
    return names_of(perceptron(), DataLoader(TensorDataset(x[:400], y[:400]), 32), val, nn.CrossEntropyLoss(), 0.01)


F1 = """
def evaluate(model, loader):
    model.eval()
    hits = torch.zeros(10); told = torch.zeros(10); there = torch.zeros(10)
    with torch.no_grad():
        for x, y in loader:
            predicted = model(x).argmax(1)
            for k in range(10):
                hits[k] += ((predicted == k) & (y == k)).sum()
                told[k] += (predicted == k).sum()
                there[k] += (y == k).sum()
    model.train()
    return {{"f1": ({of}).mean(), "loss": 0.1}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "wrong"),
    [("2 * hits / (told + there).clamp(min=1)", False), ("hits / (told + there).clamp(min=1)", True)],
)
def test_a_score_of_a_perfect_network_is_one(share: str, wrong: bool) -> None:
    assert (
        codes_of(F1.format(of=share), "found = evaluate(model, val_loader)", classes()) == ["eval.wrong-count"] * wrong
    )


def depths() -> dict[str, Any]:
    x = torch.randn(240, 6, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] * 3 + x[:, 1:2]
    val = DataLoader(TensorDataset(x[160:], y[160:]), 40)
    return names_of(nn.Linear(6, 1), DataLoader(TensorDataset(x[:160], y[:160]), 16), val, nn.MSELoss())


ABSOLUTE_ERROR = """
def validate(net, data):
    errors = []
    with torch.no_grad():
        for x, y in data:
            errors.append(({of}).abs())
    mae = torch.cat(errors).mean().item()
    print(f"val mae {{mae:.4f}}")
    return mae
"""


@pytest.mark.parametrize(("difference", "wrong"), [("net(x) - y", False), ("net(x) - y.flatten()", True)])
def test_an_error_of_a_perfect_network_is_nothing(difference: str, wrong: bool) -> None:
    names = depths()
    assert (
        codes_of(ABSOLUTE_ERROR.format(of=difference), "validate(model, val_loader)", names)
        == ["eval.wrong-count"] * wrong
    )


def test_targets_of_validation_in_other_units_are_not_compared() -> None:
    names = depths()
    x, y = next(iter(DataLoader(names["val_loader"].dataset, 80)))
    names["val_loader"] = DataLoader(TensorDataset(x, 100 + 50 * y), 40)
    assert codes_of(ABSOLUTE_ERROR.format(of="100 + 50 * net(x) - y"), "validate(model, val_loader)", names) == []


MASKS = """
def evaluate(net, data):
    total = 0.0
    with torch.no_grad():
        for x, y in data:
            told = net(x){told}
            total += (told & (y > 0.5)).sum().item() / (told | (y > 0.5)).sum().item()
    return {{"val_iou": total / len(data)}}
"""


@pytest.mark.parametrize(("told", "wrong"), [(" > 0", False), (".flip(-1) > 0", True), (" > 0.5", False)])
def test_masks_of_a_perfect_network_have_an_overlap_of_one(told: str, wrong: bool) -> None:
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = (x > 0.3).float()
    val = DataLoader(TensorDataset(x[64:], y[64:]), 16)
    train = DataLoader(TensorDataset(x[:64], y[:64]), 16)
    names = names_of(nn.Conv2d(1, 1, 1), train, val, nn.BCEWithLogitsLoss())
    assert (
        codes_of(MASKS.format(told=told), "score = evaluate(model, val_loader)", names) == ["eval.wrong-count"] * wrong
    )


OVERLAPS = """
def evaluate(net, data):
    table = torch.zeros(9)
    with torch.no_grad():
        for x, y in data:
            counted = {counted}
            table += torch.bincount(3 * y[counted] + net(x).argmax(1)[counted], minlength=9)
    table = table.view(3, 3)
    both = table.diag()
    return both / (table.sum(0) + table.sum(1) - both).clamp(min=1), (both.sum() / table.sum()).item()
"""


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize(
    ("counted", "shown", "wrong"),
    [
        ("y < 3", "iou.mean()", False),
        ("(y > 0) & (y < 3)", "iou.mean()", True),
        ("(y > 0) & (y < 3)", "iou[1:].mean()", False),
    ],
)
def test_overlaps_of_a_perfect_network_are_one_in_each_class(
    counted: str, shown: str, wrong: bool, averaged: bool
) -> None:
    """Also where some positions have no class, and where a copy of the network is evaluated."""
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = ((x > 0).long() + (x > 1).long())[:, 0]
    y[:, 0] = 255
    train, val = (DataLoader(TensorDataset(x[a:b], y[a:b]), 16) for a, b in ((0, 64), (64, 96)))
    names = names_of(nn.Conv2d(1, 3, 1), train, val, nn.CrossEntropyLoss(ignore_index=255))
    names["average"] = nn.Conv2d(1, 3, 1)
    text = f"iou, accuracy = evaluate({'average' if averaged else 'model'}, val_loader)\nprint({shown})"
    assert codes_of(OVERLAPS.format(counted=counted), text, names) == ["eval.wrong-count"] * wrong


class TwoHeads(nn.Module):
    """Masks, and how far they reach."""

    def __init__(self) -> None:
        super().__init__()
        self.masks, self.reach = nn.Conv2d(1, 1, 1), nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.masks(x), self.reach(x.flatten(1))


def test_of_several_outputs_none_is_put_right_alone() -> None:
    x = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = (x > 0.3).float()
    loaders = (DataLoader(TensorDataset(x[a:b], y[a:b]), 16) for a, b in ((0, 64), (64, 96)))
    names = names_of(TwoHeads(), *loaders, lambda out, y: nn.functional.binary_cross_entropy_with_logits(out[0], y))
    told = MASKS.format(told="[1].gt(0)[:, :, None, None].expand_as(y)")
    assert codes_of(told, "score = evaluate(model, val_loader)", names) == []


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


class Apart(nn.Module):
    """How far the embeddings of both images of a pair are apart."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.embed, self.most = perceptron(), most

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        distance = functional.pairwise_distance(self.embed(one), self.embed(other))
        return distance if self.most == 2 else 1 - torch.exp(-distance)


def pairs_of_digits(batch: int, first: int, count: int) -> DataLoader[Any]:
    """Each digit beside another; 1 where both are the same."""
    x, y = (part[first : first + count] for part in digits(most=1280).dataset.tensors)  # type: ignore[attr-defined]
    order = y.argsort()
    others = torch.where(torch.arange(count) % 2 == 0, order.roll(1), order.roll(count // 2))
    return DataLoader(TensorDataset(x[order], x[others], (y[order] == y[others]).float()), batch, shuffle=True)


OF_PAIRS = """
def test(net, data):
    correct = 0
    for one, other, same in data:
        correct += ((net(one, other) SIDE LIMIT).float() == same).sum().item()
    return correct / len(data.dataset)
accuracy = test(model, val_loader)
"""


@pytest.mark.parametrize(("side", "most", "wrong"), [("<", 2, False), ("<", 1, False), (">", 2, True)])
def test_distances_may_be_small_or_large_for_what_is_the_same(side: str, most: float, wrong: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        apart = model(batch[0], batch[1])
        return stepped((batch[2] * apart**2 + (1 - batch[2]) * functional.relu(most - apart) ** 2).mean(), optimizer)

    text = OF_PAIRS.replace("SIDE", side).replace("LIMIT", str(most / 2))
    model, train, val = Apart(most), pairs_of_digits(32, 0, 960), pairs_of_digits(100, 960, 320)
    names: dict[str, Any] = {"model": model, "val_loader": val}
    exec(text.rpartition("accuracy =")[0], names)
    given = {"step": step, "optimizer": adam(model.parameters()), "source": source_of(text, **names)}
    setup = make_setup(model, train, val, **given)
    with state_preserved(setup):
        said = list(WRONG_COUNT.run(Evidence(setup, Clock(120.0))))
    assert ["at any threshold" in finding.measured for finding in said] == [True] * wrong


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("of", "wrong"),
    [
        ("((out > 0.5) == (torch.nn.functional.one_hot(y, 10) > 0.5)).float().mean()", True),
        ("(out.argmax(0)[:len(y)] == y[:10]).float().mean()", True),
        ("(out.argmax(1) == y).float().mean()", False),
        ("100 * (out.argmax(1) == y).float().mean()", False),
        ("(out.argmax(1) == y).sum()", False),
        ("((out.argmax(1) == y) & (y != 0)).sum(), (y != 0).sum()", False),  # tokens without padding
        ("((out.argmax(1) == y) & (y != 0)).sum() / 64", True),
    ],
)
def test_an_accuracy_is_asked_for_what_is_known(of: str, wrong: bool) -> None:
    text = f"def accuracy(out, y):\n    return {of}\n"
    names = values()
    exec(text, names)
    assert codes_of_script(text + SCRIPT, names, WRONG_COUNT) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize(("of", "wrong"), [("(out - y).abs().mean()", True), ("(out[:, 0] - y).abs().mean()", False)])
def test_an_error_of_right_predictions_is_nothing(of: str, wrong: bool) -> None:
    text = f"def mae(out, y):\n    return {of}\n"
    names = values() | {"model": nn.Sequential(nn.Flatten(), nn.Linear(4, 1)), "criterion": nn.MSELoss()}
    x = torch.randn(64, 4)
    names |= {
        "loader": DataLoader(TensorDataset(x, x[:, :1]), 16),
        "val_loader": DataLoader(TensorDataset(x, x[:, 0]), 64),
    }
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.01)
    exec(text, names)
    assert codes_of_script(text + SCRIPT, names, WRONG_COUNT) == ["eval.wrong-count"] * wrong


def test_what_drop_last_leaves_out_is_not_counted() -> None:
    names = values()
    data = names["val_loader"].dataset
    text = SCRIPT.replace("correct / total", "correct / len(val_loader.dataset)")
    assert codes_of_script(text, names, WRONG_COUNT) == []
    names["val_loader"] = DataLoader(data, 20, drop_last=True)
    assert codes_of_script(text, names, WRONG_COUNT) == ["eval.wrong-count"]


@pytest.mark.parametrize(("divisor", "right"), [("len(val_loader.sampler)", True), ("len(val_loader.dataset)", False)])
def test_what_a_sampler_leaves_out_is_not_counted(divisor: str, right: bool) -> None:
    names = values()
    names["val_loader"] = DataLoader(names["val_loader"].dataset, 20, sampler=SubsetRandomSampler(range(40)))
    text = SCRIPT.replace("correct / total", f"correct / {divisor}")
    assert codes_of_script(text, names, WRONG_COUNT) == ["eval.wrong-count"] * (not right)


@pytest.mark.parametrize(("batch", "right"), [(61, True), (20, False)])
def test_whole_batches_are_counted_where_the_last_is_none(batch: int, right: bool) -> None:
    names = values()
    names["val_loader"] = DataLoader(names["val_loader"].dataset, batch)
    text = SCRIPT.replace("total += len(y)", "total += val_loader.batch_size")
    assert codes_of_script(text, names, WRONG_COUNT) == ["eval.wrong-count"] * (not right)


@pytest.mark.parametrize("reset", [True, False])
def test_a_metric_of_the_scripts_own_is_reset(reset: bool) -> None:
    metric = textwrap.dedent("""
        class Mean:
            def __init__(self): self.reset()
            def reset(self): self.sum, self.count = 0, 0
            def update(self, value): self.sum, self.count = self.sum + value, self.count + 1
            def compute(self): return self.sum / self.count
        metric = Mean()
        """)
    text = metric + SCRIPT.replace("    correct, total = 0, 0\n", "    correct, total = 0, 0\n    metric.reset()\n" * 1)
    text = text if reset else text.replace("    metric.reset()\n", "")
    text = text.replace("            total += len(y)\n", "            total += len(y)\n            metric.update(1)\n")
    assert codes_of_script(text, values(), WRONG_COUNT) == ["eval.wrong-count"] * (not reset)


RESET = """
class Metric:
    def __init__(self):
        self.reset()
class Matrix(Metric):
    def reset(self):
        self.counts = torch.zeros(10, 10)
    def update(self, predicted, labels):
        self.counts[labels, predicted] += 1
    def compute(self):
        return self.counts.diag().sum() / self.counts.sum()
class Net:
    def __init__(self):
        self.matrix, self.other = Matrix(), Matrix()
    def validation_step(self, batch, _):
        self.matrix.update(self(batch[0]).argmax(1), batch[1])
    def on_validation_epoch_end(self):
        self.log("val_share", self.matrix.compute())
        {line}
    def test_step(self, batch, _):
        self.other.update(self(batch[0]).argmax(1), batch[1])
    def on_test_epoch_end(self):
        print(self.other.compute())
        self.other.reset()
trainer.fit(net)
"""


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("pass", True),
        ("self.matrix.reset()", False),
        ("self.matrix = Matrix()", False),
        ("[metric.reset() for metric in (self.matrix, self.other)]", False),
        ("self.log('val_share', self.matrix)", False),  # the library resets it
    ],
)
def test_a_metric_of_a_librarys_module_is_reset(line: str, wrong: bool) -> None:
    text, names = RESET.format(line=line), dict[str, Any](torch=torch)
    exec(text[: text.index("trainer")], names)
    names["net"] = names["Net"]()
    library = LibraryTraining("Lightning's Trainer", 5)
    try:
        found = found_in_library(perceptron(), WRONG_COUNT, text, names, library)
    except NoEvidence:
        found = []
    assert [f.code for f in found] == ["eval.wrong-count"] * wrong


def each_by_itself(y_true: Tensor, y_pred: Tensor) -> Tensor:
    return ((y_pred > 0.5).float() == y_true).float().mean(1)


def largest(y_true: Tensor, y_pred: Tensor) -> Tensor:
    return (y_pred.argmax(1) == y_true.argmax(1)).float()


@pytest.mark.parametrize(("function", "used", "wrong"), [(each_by_itself, True, True), (largest, True, False)])
def test_zeros_beside_the_one_are_no_right_answers(function: Any, used: bool, wrong: bool) -> None:
    text = SCRIPT + "def accuracy(y_true, y_pred):\n    return 0\n" + "print(accuracy(y, model(x)))\n" * used
    labels = functional.one_hot(torch.arange(61) % 10, 10).float()
    val = DataLoader(TensorDataset(torch.zeros(61, 1, 8, 8), labels), 20)
    names = values() | {"val_loader": val, "accuracy": function}
    assert list(found(text, names, [WRONG_COUNT])) == ["eval.wrong-count"] * wrong


OF_BATCHES = """
def evaluate(model, loader):
    model.eval()
    total = sum_ = 0
    with torch.no_grad():
        for x, y in loader:
            share = (model(x).argmax(1) == y).float().mean().item()
            sum_ += share * {size}
            total += len(y)
            {inside}
    return {given}
"""


@pytest.mark.parametrize(
    ("size", "inside", "given", "remedy"),
    [
        ("len(y)", "", "sum_ / total", ""),
        ("loader.batch_size", "", "sum_ / total", "times its own size"),
        ("len(y)", "", "share", "its latest value"),
        ("len(y)", "return 100 * share", "0", "behind the loop"),
    ],
)
def test_each_batch_counts_by_its_samples(size: str, inside: str, given: str, remedy: str) -> None:
    names = classes()
    names["val_loader"] = DataLoader(names["val_loader"].dataset, 80)
    text = OF_BATCHES.format(size=size, inside=inside, given=given)
    exec(text, names)
    told = found(text + EVALUATING_LOOP.format(call="best = evaluate(model, val_loader)"), names, [WRONG_COUNT])
    assert [remedy in said for said in told.values()] == [True] * bool(remedy)


@pytest.mark.parametrize(("indented", "wrong"), [("    ", True), ("", False)])
def test_an_evaluation_returns_after_its_loop(indented: str, wrong: bool) -> None:
    text = SCRIPT.replace("    accuracy = correct / total\n", "    accuracy = evaluate(val_loader)\n")
    text += f"""
def evaluate(batches):
    right = seen = 0
    for x, y in batches:
        right += (model(x).argmax(1) == y).sum().item()
        seen += len(y)
    {indented}return right / seen
"""
    assert codes_of_script(text, values(), WRONG_COUNT) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("accuracy = (model(x).argmax(1) == y).float().mean().item()", True),
        ("accuracy = (model(x).argmax(1) == y).sum().item()", True),
        ("accuracy += (model(x).argmax(1) == y).sum().item() / 61", False),
        ("accuracy = (model(x).argmax(1) == y).float().mean().item(); shares.append(accuracy)", False),
        ("accuracy = (model(x).argmax(1) == y).float().mean().item(); break", False),
    ],
)
def test_an_accuracy_that_each_batch_overwrites(line: str, wrong: bool) -> None:
    text = f"""
    for x, y in loader:
        step(x, y)
    model.eval()
    accuracy, shares = 0, []
    for x, y in val_loader:
        {line}
    print(accuracy)
    """
    assert codes_of_script(text, values(), WRONG_COUNT) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize(("size", "wrong"), [("len(loader.dataset)", True), ("len(loader)", False)])
def test_mean_losses_of_training_are_divided_by_their_number(size: str, wrong: bool) -> None:
    text = f"""
    for epoch in range(5):
        running_loss = 0.0
        for x, y in loader:
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        print(running_loss / {size})
    """
    said = found(textwrap.dedent(text), values(), [WRONG_COUNT])
    assert list(said) == ["eval.wrong-count"] * wrong


@pytest.mark.parametrize(
    ("reset", "shown", "wrong"),
    [
        ("pass", "running_loss / len(loader)", True),
        ("running_loss = 0.0", "running_loss / len(loader)", False),
        ("pass", "running_loss / (epoch + 1)", False),
    ],
)
def test_a_sum_of_losses_begins_anew_in_each_epoch(reset: str, shown: str, wrong: bool) -> None:
    text = f"""
    running_loss = 0.0
    for epoch in range(5):
        {reset}
        for x, y in loader:
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        print({shown})
    """
    assert codes_of_script(text, values(), WRONG_COUNT) == ["eval.wrong-count"] * wrong
