"""`eval.batch-means`: does each sample count the same in a metric?"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import digits, perceptron, read
from for_checks.scripts import SCRIPT, found, found_in_library, values
from striate.doctor.checks.eval.batch_means import BATCH_MEANS
from striate.doctor.setup.library_training import LibraryTraining


@pytest.mark.parametrize(("size", "wrong"), [("len(y)", True), ("y.size(0)", True), ("1", False)])
def test_a_mean_of_the_shares_of_batches(size: str, wrong: bool) -> None:
    text = SCRIPT.replace("correct += (predicted == y)", f"shares.append((predicted == y).sum().item() / {size}) #")
    text = text.replace("accuracy = correct / total\n", "accuracy = np.mean(shares)\n")
    assert list(found(text, values(), [BATCH_MEANS])) == ["eval.batch-means"] * wrong


@pytest.mark.parametrize(("added", "wrong"), [("mean(1) / y", False), ("mean() / 2", True)])
def test_errors_of_each_sample_in_units_of_its_own(added: str, wrong: bool) -> None:
    text = SCRIPT.replace("correct += (predicted == y).sum().item()", f"errors.append(outputs.abs().{added})")
    text = text.replace("    accuracy = correct / total\n", "    accuracy = torch.stack(errors).mean().item()\n")
    assert list(found(text, values(), [BATCH_MEANS])) == ["eval.batch-means"] * wrong


@pytest.mark.parametrize(("each", "below", "wrong"), [("share", "batches", True), ("share * len(x)", "seen", False)])
def test_a_mean_of_means_that_have_a_name(each: str, below: str, wrong: bool) -> None:
    text = f"""
    def evaluate(val_loader):
        total, seen = 0.0, 0
        for x, y in val_loader:
            share = (model(x).argmax(1) == y).float().mean().item()
            total += {each}
            seen += len(x)
        return total / {"len(val_loader)" if below == "batches" else below}
    for x, y in loader:
        pass
    evaluate(val_loader)
    """
    data = TensorDataset(torch.randn(240, 1, 8, 8), torch.zeros(240).long())
    names = {"model": perceptron(), "val_loader": DataLoader(data, 100)}
    said = read(text, BATCH_MEANS, names["model"], digits(), names=names)
    assert [one.code for one in said] == ["eval.batch-means"] * wrong


def test_an_accuracy_that_divides_by_the_usual_batch_is_told() -> None:
    def accuracy(output: torch.Tensor, target: torch.Tensor, batch: int) -> torch.Tensor:
        return 100 * (output.argmax(1) == target).float().sum() / batch

    written = "def accuracy(output, target):\n    return 100 * (output.argmax(1) == target).float().sum() / {}\n"
    for of, wrong in (("64", True), ("len(target)", False)):
        names = values() | {"accuracy": lambda o, t, of=of: accuracy(o, t, 64 if of == "64" else len(t))}
        told = found(written.format(of) + SCRIPT, names)
        assert told == ({"eval.wrong-count": told.get("eval.wrong-count")} if wrong else {})
        assert not wrong or "`len(labels)`" in told["eval.wrong-count"]


class Meter:
    def __init__(self) -> None:
        self.avg = self.sum = self.count = 0.0

    def update(self, value: float, n: int = 1) -> None:
        self.sum, self.count = self.sum + value * n, self.count + n
        self.avg = self.sum / self.count


class Deaf(Meter):
    def update(self, value: float, n: int = 1) -> None:
        super().update(value, min(n, 1))


@pytest.mark.parametrize(("kind", "wrong"), [(Meter, False), (Deaf, True)])
def test_a_meter_weighs_a_value_by_its_samples(kind: type[Meter], wrong: bool) -> None:
    text = SCRIPT.replace(
        "total += len(y)\n", "total += len(y)\n            top1.update(accuracy_of(outputs, y), len(y))\n"
    )
    assert list(found(text, values() | {"Meter": kind}, [BATCH_MEANS])) == ["eval.batch-means"] * wrong


ROOTS = """
for x, y in loader:
    loss = criterion(model(x), y)
total = 0.0
for x, y in val_loader:
    mse = {squared}
    total += {root}
rmse = total / len(val_loader)
"""


@pytest.mark.parametrize(
    ("squared", "root", "apart", "wrong"),
    [
        ("functional.mse_loss(model(x), y)", "mse.sqrt().item()", 10.0, True),
        ("((model(x) - y) ** 2).mean()", "float(mse ** 0.5)", 10.0, True),
        ("functional.mse_loss(model(x), y)", "mse.sqrt().item()", 0.0, False),
        ("functional.mse_loss(model(x), y)", "mse.item()", 10.0, False),
        ("((model(x) - y) ** 2).mean((1, 2)).sum()", "mse.sqrt()", 10.0, False),
    ],
)
def test_roots_of_batches_are_not_averaged(squared: str, root: str, apart: float, wrong: bool) -> None:
    x, y = torch.randn(80, 3), torch.randn(80, 1) + apart * (torch.arange(80)[:, None] >= 60)
    data = DataLoader(TensorDataset(x, y), 20)
    model, criterion = nn.Linear(3, 1), nn.MSELoss()
    names = values() | {"model": model, "loader": data, "val_loader": data, "criterion": criterion}
    names |= {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "functional": functional}
    text = ROOTS.format(squared=squared, root=root)
    assert (
        list(found(text, names | {"val_loader": DataLoader(data.dataset, 20)}, [BATCH_MEANS]))
        == ["eval.batch-means"] * wrong
    )


@pytest.mark.parametrize(("added", "wrong"), [("mean(1)", False), ("mean()[None]", True), ("mean(dim=-1)", False)])
def test_errors_of_each_sample_are_no_means_of_batches(added: str, wrong: bool) -> None:
    text = SCRIPT.replace("correct += (predicted == y).sum().item()", f"errors.append(outputs.abs().{added})")
    text = text.replace("    accuracy = correct / total\n", "    accuracy = torch.cat(errors).mean().item()\n")
    assert list(found(text, values(), [BATCH_MEANS])) == ["eval.batch-means"] * wrong


LOGGED = """
class Net:
    def {hook}(self, batch, _):
        share = (self(batch[0]).argmax(1) == batch[1]).float().mean()
        self.{call}
trainer.fit(net)
"""


@pytest.mark.parametrize(
    ("call", "hook", "wrong"),
    [
        ('log("val_acc", share, reduce_fx="max", batch_size=len(batch[1]))', "validation_step", True),
        ('log("val/acc", share, reduce_fx=torch.max)', "validation_step", True),
        ('log_dict({"test_loss": 1 - share, "n": 1}, reduce_fx="min")', "test_step", True),
        ('log("val_acc", share, reduce_fx="mean")', "validation_step", False),
        ('log("val_acc", share, batch_size=len(batch[1]))', "validation_step", False),
        ('log("max_loss", share, reduce_fx="max")', "validation_step", False),
        ('log("memory", share, reduce_fx="max")', "validation_step", False),
        ('log("val_acc", self.accuracy, reduce_fx="max")', "validation_step", False),
        ('log("acc", share, reduce_fx="max")', "training_step", False),
    ],
)
def test_all_batches_count_in_what_a_library_logs(call: str, hook: str, wrong: bool) -> None:
    library = LibraryTraining("Lightning's Trainer", 5)
    said = found_in_library(perceptron(), BATCH_MEANS, LOGGED.format(call=call, hook=hook), {}, library)
    assert [finding.code for finding in said] == ["eval.batch-means"] * wrong
