"""Checks that read how a script validates: its metrics, modes, folds, what it fits anew and which epoch it keeps."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_source_checks import SCRIPT, found, source_of, values
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.same_order import SAME_ORDER
from striate.doctor.checks.data.shift.fitted_anew import FITTED_ANEW
from striate.doctor.checks.data.shift.shifted_tables import SHIFTED_TABLES
from striate.doctor.checks.data.splits.folds import OPTIMIZER_OF_ANOTHER_FOLD, SHARED_NETWORK
from striate.doctor.checks.data.splits.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.modes import MODE
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.loss.counted.ignored import IGNORED_CLASS
from striate.doctor.checks.loss.sign.added_scores import score_added
from striate.doctor.checks.model.weights_not_loaded import CHECK as WEIGHTS_NOT_LOADED
from striate.doctor.checks.optim.clip_too_small import CLIP_TOO_SMALL
from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE
from striate.doctor.checks.optim.scheduler_calls import CHECK as SCHEDULER_CALLS


def codes(text: str, names: dict[str, Any], check: Any) -> list[str]:
    return list(found(textwrap.dedent(text), names, [check]))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("of", "wrong"),
    [
        ("((out > 0.5) == (torch.nn.functional.one_hot(y, 10) > 0.5)).float().mean()", True),
        ("(out.argmax(0)[:len(y)] == y[:10]).float().mean()", True),
        ("(out.argmax(1) == y).float().mean()", False),
        ("100 * (out.argmax(1) == y).float().mean()", False),
        ("(out.argmax(1) == y).sum()", False),
    ],
)
def test_an_accuracy_is_asked_for_what_is_known(of: str, wrong: bool) -> None:
    text = f"def accuracy(out, y):\n    return {of}\n"
    names = values()
    exec(text, names)
    assert codes(text + SCRIPT, names, WRONG_COUNT) == ["eval.wrong-count"] * wrong


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
    assert codes(text + SCRIPT, names, WRONG_COUNT) == ["eval.wrong-count"] * wrong


def test_what_drop_last_leaves_out_is_not_counted() -> None:
    names = values()
    data = names["val_loader"].dataset
    text = SCRIPT.replace("correct / total", "correct / len(val_loader.dataset)")
    assert codes(text, names, WRONG_COUNT) == []
    names["val_loader"] = DataLoader(data, 20, drop_last=True)
    assert codes(text, names, WRONG_COUNT) == ["eval.wrong-count"]


@pytest.mark.parametrize(("batch", "right"), [(61, True), (20, False)])
def test_whole_batches_are_counted_where_the_last_is_none(batch: int, right: bool) -> None:
    names = values()
    names["val_loader"] = DataLoader(names["val_loader"].dataset, batch)
    text = SCRIPT.replace("total += len(y)", "total += val_loader.batch_size")
    assert codes(text, names, WRONG_COUNT) == ["eval.wrong-count"] * (not right)


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
    assert codes(text, values(), WRONG_COUNT) == ["eval.wrong-count"] * (not reset)


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
    assert codes(PHASES.replace("MODE", mode), values(), MODE) == ["eval.mode"] * (not right)


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
    assert codes(text, names, MODE) == ["eval.mode"] * (not right)


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
    assert codes(text, values(), MODE) == ["eval.mode"] * (not right)


@pytest.mark.parametrize(("sign", "wrong"), [(">", True), ("<", False)])
def test_a_helper_keeps_the_best_of_what_it_is_given(sign: str, wrong: bool) -> None:
    text = f"""
        class EarlyStopping:
            def __init__(self):
                self.best, self.counter = None, 0
            def __call__(self, score, model):
                if self.best is None or score {sign} self.best:
                    self.best, self.counter = score, 0

        stopper = EarlyStopping()
        for epoch in range(5):
            for x, y in loader:
                pass
            if stopper(val_mae, model):
                break
        """
    assert codes(text, values(), WORST_KEPT) == ["eval.worst-kept"] * wrong


BUILDS = "def build_vocab(texts):\n    return {}\n"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("x_val = scaler.fit_transform(x_val)", True),
        ("x_train = scaler.fit_transform(x_train)\nx_val = scaler.transform(x_val)", False),
        ("for name in parts:\n    x = scaler.fit_transform(data[name])", True),
        ("for column in ['age', 'fare']:\n    x = scaler.fit_transform(data[column])", False),
        ("seen = TSNE().fit_transform(x_test)", False),
        (BUILDS + "known, other = build_vocab(train_texts), build_vocab(val_texts)", True),
        (BUILDS + "known = build_vocab(train_texts + val_texts)", False),
        (BUILDS + "known, other = build_vocab(train_words), build_vocab(train_labels)", False),
    ],
)
def test_validation_is_scaled_as_training_was(text: str, wrong: bool) -> None:
    names = values() | {"parts": {"train": (0, 5), "val": (5, 8)}}
    assert codes(f"{text}\nfor x, y in loader:\n    pass\n", names, FITTED_ANEW) == ["data.shift"] * wrong


FOLDS = """
BEFORE
for fold, (train_rows, val_rows) in enumerate(folds.split(rows)):
    INSIDE
    for epoch in range(5):
        for x, y in loader:
            train(model, optimizer, x, y)
    model.load_state_dict(best)
"""


@pytest.mark.parametrize(
    ("before", "inside", "shared", "stale"),
    [
        ("", "model, optimizer = make()", False, False),
        ("model = make()", "optimizer = make_optimizer()", True, False),
        ("model = make()", "model.load_state_dict(start)\n    optimizer = make_optimizer()", False, False),
        ("model = make()", "reset_weights(model)\n    optimizer = make_optimizer()", False, False),
        ("", "model = make()\n    if fold == 0:\n        optimizer = make_optimizer()", False, True),
    ],
    ids=["both anew", "shared", "put back", "reset", "optimizer of the first"],
)
def test_each_fold_begins_anew(before: str, inside: str, shared: bool, stale: bool) -> None:
    text = (
        FOLDS.replace("BEFORE", before)
        .replace("INSIDE", inside)
        .replace("    model.load_state_dict(best)", "    best = 1\n    model.load_state_dict(best)")
    )
    assert codes(text, values(), SHARED_NETWORK) == ["data.leak"] * shared
    assert codes(text, values(), OPTIMIZER_OF_ANOTHER_FOLD) == ["optim.parameters-missing"] * stale


@pytest.mark.parametrize("over", ["index in order.split(32)", "x, y in zip(a.split(8), b.split(8))"])
def test_batches_that_a_tensor_is_split_into_are_no_folds(over: str) -> None:
    assert not codes(
        f"model = make()\nfor {over}:\n    train(model)\nfor x, y in loader:\n    pass\n", values(), SHARED_NETWORK
    )


@pytest.mark.parametrize("far", [True, False])
def test_a_column_far_beyond_training(far: bool) -> None:
    x, image, y = torch.randn(96, 3), torch.randn(96, 1, 4, 4), torch.arange(96) % 2

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(19, 2)

        def forward(self, image: Tensor, columns: Tensor) -> Tensor:
            out: Tensor = self.last(torch.cat([image.flatten(1), columns], 1))
            return out

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0], batch[1]), batch[2])
        value.backward()
        optimizer.step()
        return value.detach()

    train = DataLoader(TensorDataset(image[:64], x[:64], y[:64]), 16)
    val = DataLoader(TensorDataset(image[64:], (x[64:] + (500 if far else 0.5)), y[64:]), 16)
    told = asked(SHIFTED_TABLES, Both(), train, val=val, step=step, loss=nn.CrossEntropyLoss())
    assert [finding.code for finding in told] == ["data.shift"] * far


@pytest.mark.parametrize(
    ("body", "value", "wrong"),
    [
        ("return 2 * (p * y).sum() / (p + y).sum()", "bce + dice(p, y)", True),
        ("return 2 * (p * y).sum() / (p + y).sum()", "bce - (-dice(p, y).mean())", False),
        ("return 2 * (p * y).sum() / (p + y).sum()", "bce + (1 - dice(p, y))", False),
        ("return 2 * (p * y).sum() / (p + y).sum()", "0.5 * dice(p, y).mean() + bce", True),
        ("return 1 - 2 * (p * y).sum() / (p + y).sum()", "bce + dice(p, y)", False),
    ],
)
def test_a_score_is_taken_from_one(body: str, value: str, wrong: bool) -> None:
    text = f"def dice(p, y):\n    {body}\n\ndef seg_loss(bce, p, y):\n    return {value}\n"
    assert (score_added(source_of(text)) is not None) is wrong


def test_a_mean_of_a_score_is_one() -> None:
    text = "def dice(p, y):\n    return (p * y).sum(1)\n\ndef dice_loss(p, y):\n    return {}dice(p, y).mean()\n"
    text += "loss += dice_loss(p, y)\n"
    assert score_added(source_of(text.format(""))) is not None
    assert score_added(source_of(text.format("1 - "))) is None


def test_sums_of_several_names_are_no_loss() -> None:
    text = "def accuracy(p, y):\n    return (p == y).sum()\n"
    text += "loss_sum, right, n = loss_sum + loss.item(), right + accuracy(p, y), n + len(y)\n"
    assert score_added(source_of(text)) is None


@pytest.mark.parametrize("seeded", [True, False])
def test_seeds_before_each_batch(seeded: bool) -> None:
    x, y = torch.randn(16, 1, 8, 8), torch.arange(16) % 10
    names = values() | {"loader": [(x, y)] * 4}
    text = f"for epoch in range(3):\n    for x, y in loader:\n        {'torch.manual_seed(0)' if seeded else 'pass'}\n"
    assert codes(text, names, SAME_ORDER) == ["data.same-order"] * seeded


@pytest.mark.parametrize(("batches", "late"), [(40, True), (1, False)])
def test_a_warmup_longer_than_the_training(batches: int, late: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    warmup = LinearLR(optimizer, 0.01, total_iters=2 * batches)
    schedule = SequentialLR(optimizer, [warmup, CosineAnnealingLR(optimizer, 3)], [2 * batches])
    names = values() | {"model": model, "optimizer": optimizer, "scheduler": schedule, "warmup": warmup}
    assert codes(SCRIPT, names, LR_SCHEDULE) == ["optim.lr-schedule"] * late


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("each", "early"), [(1, True), (3, False)])
@pytest.mark.parametrize("more", ["", "    torch.save(epoch, 'made.pt')\n"])
def test_a_function_that_lowers_the_rate_each_epoch(each: int, early: bool, more: str) -> None:
    """It is called for epochs to come, unless it does more than that."""
    function = (
        "def adjust_learning_rate(optimizer, epoch, every):\n"
        "    for group in optimizer.param_groups:\n"
        f"        group['lr'] = 0.1 * 0.1 ** (epoch // every)\n{more}"
    )
    names = values() | {"every": each}
    exec(function, names)
    names = {key: value for key, value in names.items() if key != "__builtins__"}
    text = SCRIPT.replace("range(5):\n", "range(8):\n    adjust_learning_rate(optimizer, epoch, every)\n")
    text = function + text.replace("    scheduler.step()\n", "")
    found = codes(text, names, LR_SCHEDULE)
    assert found == ["optim.lr-schedule"] * (early and not more)
    assert names["optimizer"].param_groups[0]["lr"] == 0.1
    assert not Path("made.pt").exists()


@pytest.mark.parametrize(("epochs", "early"), [(1, True), (5, False)])
def test_a_schedule_that_is_over_after_an_epoch(epochs: int, early: bool) -> None:
    """Of the five that the script's loop makes."""
    model = perceptron()
    names = values() | {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    batches = len(names["loader"])
    names["scheduler"] = LambdaLR(names["optimizer"], lambda n: max(0.0, 1 - n / (epochs * batches)))
    text = SCRIPT.replace("    scheduler.step()\n", "")
    text = text.replace("        scaler.update()\n", "        scaler.update()\n        scheduler.step()\n")
    assert codes(text, names, LR_SCHEDULE) == ["optim.lr-schedule"] * early


def test_what_a_scaler_made_larger_is_not_clipped_away() -> None:
    scaler = torch.amp.GradScaler("cpu")

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return value.detach()

    def slow(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e-4)

    assert not asked(CLIP_TOO_SMALL, perceptron(), digits(), step=step, loss=nn.CrossEntropyLoss(), optimizer=slow)


def test_a_class_beside_what_is_void() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 4, (64, 6, 6), generator=generator)  # 3 is void
    data = DataLoader(TensorDataset(torch.randn(64, 1, 6, 6, generator=generator), maps), 8)
    model = nn.Conv2d(1, 3, 3, padding=1)

    def step(lost: int) -> Any:
        def stepped(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
            x, y = batch
            counts = ((y != 3) & (y != lost)).float()
            target = torch.nn.functional.one_hot(y.clamp(max=2), 3).permute(0, 3, 1, 2).float()
            each = torch.nn.functional.binary_cross_entropy_with_logits(model(x), target, reduction="none")
            optimizer.zero_grad()
            value = (each * counts[:, None]).mean()
            value.backward()
            optimizer.step()
            return value.detach()

        return stepped

    (finding,) = asked(IGNORED_CLASS, model, data, step=step(0), task="classify")
    assert "class 0, " in finding.measured
    assert not asked(IGNORED_CLASS, model, data, step=step(-1), task="classify")


@pytest.mark.parametrize("used", [False, True])
def test_data_of_validation_are_read_somewhere(used: bool) -> None:
    split = "train_data, val_data = whole[:48], whole[48:]\n"
    batch = f"def get_batch(split):\n    return train_data if split == 'train' else {'val' if used else 'train'}_data\n"
    names = values() | {"whole": torch.arange(64), "train_data": torch.arange(48), "val_data": torch.arange(48, 64)}
    text = split + batch + "names = ['train', 'val']\n" + SCRIPT
    assert codes(text, names, SPLIT_OVERLAP) == ["data.split-overlap"] * (not used)


@pytest.mark.parametrize("ends", [True, False])
def test_a_function_without_gradients_runs_in_evaluation_mode(ends: bool) -> None:
    text = SCRIPT[: SCRIPT.index("    model.eval()")] + "    embed(model, images)\n"
    text += (
        f"@torch.no_grad()\ndef embed(net, images):\n    {'net.eval()' if ends else 'pass'}\n    return net(images)\n"
    )
    assert codes(text, values(), MODE) == ["eval.mode"] * (not ends)


@pytest.mark.parametrize(("taken", "wrong"), [("", True), ('["net"]', False)])
def test_of_what_was_saved_the_weights_are_loaded(taken: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        state = dict(net=model.state_dict(), epoch=epoch)
        torch.save(state, os.path.join(folder, "best.pth"))
        final.load_state_dict(torch.load(os.path.join(folder, "best.pth")){taken}, strict=False)
        """)
    assert codes(text, values(), WEIGHTS_NOT_LOADED) == ["model.weights-not-loaded"] * wrong


@pytest.mark.parametrize(("drawn", "wrong"), [("order[:48]", True), ("order", False)])
def test_an_order_of_training_samples_alone_is_no_split(drawn: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        class Waves(LightningDataModule):
            def setup(self, stage=None):
                order = torch.randperm(len(y))
                self.train = TensorDataset(x[{drawn}], y[{drawn}])
        trainer.fit(module, Waves())
        trainer.test(module, Waves())
        """)
    assert codes(text, values(), SPLIT_OVERLAP) == ["data.split-overlap"] * wrong


@pytest.mark.parametrize(("given", "wrong"), [("*= decay", True), ("= 0.1 * decay", False), ("*= 0.9", False)])
def test_a_decay_from_the_first_epoch_on_is_of_the_first_rate(given: str, wrong: bool) -> None:
    text = SCRIPT.replace("    scheduler.step()", "    adjust(optimizer, epoch)\n    scheduler.step()")
    text += textwrap.dedent(f"""
        def adjust(optimizer, epoch):
            decay = 0.1 ** (epoch // 3)
            for group in optimizer.param_groups:
                group["lr"] {given}
        """)
    assert codes(text, values(), SCHEDULER_CALLS) == ["optim.lr-schedule"] * wrong
