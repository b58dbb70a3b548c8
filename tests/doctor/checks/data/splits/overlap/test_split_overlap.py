"""`data.split-overlap`: does the script divide samples so that training and validation share some?"""

from __future__ import annotations

import ast
import textwrap
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from for_checks.asked import asked_in_script, digits, perceptron, read
from for_checks.scripts import SCRIPT, codes_of_script, found, source_of, values
from striate.doctor.checks.data.splits.overlap.named_parts import positions
from striate.doctor.checks.data.splits.overlap.split_overlap import SPLIT_OVERLAP
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.script.drawn_batches import DrawnBatches
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize(("begin", "parts", "wrong"), [(60, True, False), (30, True, True), (60, False, True)])
def test_positions_within_what_is_left(begin: int, parts: bool, wrong: bool) -> None:
    text = SCRIPT + f"evaluate(x{'[rest]' * parts}, y{'[rest]' * parts}, idx_val)\n"
    names = {"idx_train": torch.arange(60), "rest": torch.arange(begin, 100), "idx_val": torch.arange(40)}
    assert list(found(text, values() | names, [SPLIT_OVERLAP])) == ["data.split-overlap"] * wrong


@pytest.mark.parametrize("fitted", [range(40, 60), range(60)])
def test_positions_for_training_that_are_divided_further(fitted: range) -> None:
    names = {"train_idx": torch.arange(60), "fit_idx": torch.tensor(fitted), "val_idx": torch.arange(40)}
    assert list(found(SCRIPT, values() | names, [SPLIT_OVERLAP])) == ["data.split-overlap"] * (len(fitted) == 60)
    names = {"dev_idx": torch.arange(60), "train_idx": torch.arange(40), "rest": torch.tensor(fitted)}
    assert list(found(SCRIPT, values() | names, [SPLIT_OVERLAP])) == ["data.split-overlap"] * (len(fitted) == 60)


def test_the_ends_of_two_ranges_are_no_positions() -> None:
    assert not found(SCRIPT, values() | {"train_split": (0, 1100), "val_split": (1100, 1400)}, [SPLIT_OVERLAP])
    shared = {"train_split": list(range(50)), "val_split": list(range(40, 60))}
    assert list(found(SCRIPT, values() | shared, [SPLIT_OVERLAP])) == ["data.split-overlap"]


class Experiment:
    def __init__(self, test: Tensor) -> None:
        self.test_x = test


@pytest.mark.parametrize("first", [10, 40])
def test_images_of_an_object_are_compared_with_those_of_the_training_data(first: int) -> None:
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = DataLoader(TensorDataset(images[:40], torch.arange(40) % 10), 16, shuffle=True)
    source = ScriptSource({"train.py": ast.parse("self")}, {"self": Experiment(images[first:])}, ("train.py", 1, 1), 3)
    setup = make_setup(perceptron(), data, None, source=source)
    found = [one.where for one in SPLIT_OVERLAP.run(Evidence(setup, Clock(20.0)))]
    assert found == ["the training data set and self.test_x"] * (first < 40)


@pytest.mark.parametrize("dealt", [True, False])
def test_what_a_function_deals_to_two_parts_itself_is_split(dealt: bool) -> None:
    x = torch.rand(1000, 4)
    names: dict[str, Any] = {"x_train": x, "x_val": x[800:], "x": x[:800] if dealt else x}
    source = ScriptSource({"train.py": ast.parse("x_train = x_val = x")}, names, ("train.py", 1, 1), 3)
    setup = make_setup(perceptron(), digits(), None, source=source)
    found = [one.where for one in SPLIT_OVERLAP.run(Evidence(setup, Clock(20.0)))]
    assert found == ["x_train and x_val"] * (not dealt)


SPLITS = """
def get_batch(split):
    x, y = parts[split]
    return x[:8], y[:8]
@torch.no_grad()
def estimate():
    out = {{}}
    for split in {names}:
        reference = get_batch("train")[0].mean()
        x, y = {asked}
        value = (model(x - reference).argmax(1) == y).float().mean()
        {kept}
    return out
"""


@pytest.mark.parametrize(
    ("asked", "kept", "wrong"),
    [
        ('get_batch("train")', "out[split] = value", True),
        ("get_batch(split)", "out[split] = value", False),  # it has less than the mean of training samples
        ('parts["train"]', 'out[f"{split}_acc"] = value', True),
        ('get_batch("train" if split == "train" else "val")', "out[split] = value", False),
        ('get_batch("train")', 'print(f"{split}: {value}")', True),
        ('get_batch("train")', 'out["train"] = value', False),
    ],
)
def test_a_loop_over_splits_asks_for_each(asked: str, kept: str, wrong: bool) -> None:
    splits = "('train', 'val')" if "get" in asked else "parts"
    text = SCRIPT + textwrap.dedent(SPLITS.format(asked=asked, kept=kept, names=splits))
    names = values() | {"parts": {"train": None, "val": None}}
    assert list(found(text, names, [SPLIT_OVERLAP])) == ["data.split-overlap"] * wrong


CLEAN = torch.randn(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))


DRAWING = """
def get_batch(split):
    data = train_data if CHOSEN else val_data
    clean = data[torch.randint(len(data), (8,))]
    return clean + torch.randn_like(clean), clean
def estimate():
    return {split: net(get_batch(split)[0]) for split in ["train", "val"]}
for x, y in loader:
    net(get_batch("train")[0])
"""


@pytest.mark.parametrize(("chosen", "wrong"), [("split", True), ("split == 'train'", False)])
def test_a_function_draws_training_samples_for_validation(chosen: str, wrong: bool) -> None:
    text = DRAWING.replace("CHOSEN", chosen)
    names: dict[str, Any] = {"torch": torch, "train_data": CLEAN[:64], "val_data": CLEAN[64:]}
    exec(text.split("def estimate")[0], names)
    train = DrawnBatches(lambda: names["get_batch"]("train"))
    said = read(text, SPLIT_OVERLAP, nn.Conv2d(1, 1, 3, padding=1), train, names=names, loss=nn.MSELoss())
    assert ["the same batch for 'train' and for 'val'" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize("shared", [True, False])
def test_parts_of_a_split_in_a_dictionary(shared: bool) -> None:
    x = torch.randn(100, 8)
    names = {"data": {"train": x[:80], "val": x[-80:] if shared else x[80:]}}
    said = asked_in_script(SPLIT_OVERLAP, perceptron(), digits(), names=names)
    assert [one.where for one in said] == ["data['train'] and data['val']"] * shared


@pytest.mark.parametrize(("end", "shared"), [(400, True), (320, False)])
def test_memory_of_training_is_none_of_validation(end: int, shared: bool) -> None:
    ids = torch.arange(600)
    said = found(SCRIPT, values() | {"tr": ids[:end], "va": ids[200 if shared else 300 :][:200]}, [SPLIT_OVERLAP])
    assert list(said) == ["data.split-overlap"] * shared


@pytest.mark.parametrize("first", [12, 20])
def test_images_that_no_loader_yields_are_compared_by_their_names(first: int) -> None:
    images = torch.randn(30, 5, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    names: dict[str, Any] = {"train_images": images[:20], "valid_images": images[first:]}
    source = ScriptSource({"train.py": ast.parse("train_images")}, names, ("train.py", 1, 1), 3)
    setup = make_setup(perceptron(), digits(), None, source=source)
    found = [f.where for f in SPLIT_OVERLAP.run(Evidence(setup, Clock(20.0)))]
    assert found == ["train_images and valid_images"] * (first < 20)


MODULE = """
class Data(L.LightningDataModule):
    def setup(self, stage=None):
        SETUP
    def test_dataloader(self):
        return DataLoader(self.test)
for x, y in loader:
    pass
trainer.fit(model, data)
trainer.test(model, data)
"""
IN_TWO = """
train_x, test_x, train_y, test_y = train_test_split(images, labels, stratify=labelsSEED)
mean = train_x.mean()
if stage == "fit":
    self.train = Images(train_x - mean, train_y)
if stage == "test":
    self.test = Images(test_x - mean, test_y)
"""
UNDER_A_CONDITION = "if stage == 'fit':\n    self.train, self.test = random_split(full, [0.8, 0.2])"
FOR_VALIDATION = "self.train, self.val = random_split(full, [0.8, 0.2])\nself.test = Digits(train=False)"
FIRST_SEEDED = """
rest_x, test_x = train_test_split(images, random_state=0)
train_x, val_x = train_test_split(rest_x)
self.mean = train_x.mean()
self.test = Images((test_x - self.mean) / train_x.std())
"""


@pytest.mark.parametrize(
    ("setup", "right"),
    [
        ("self.train, self.test = random_split(full, [0.8, 0.2])", False),
        (
            "self.train, self.test = random_split(full, [0.8, 0.2], generator=torch.Generator().manual_seed(0))",
            True,
        ),
        ("self.train, self.test = random_split(full, [0.8, 0.2], torch.Generator().manual_seed(0))", True),
        (IN_TWO.replace("SEED", ""), False),
        (IN_TWO.replace("SEED", ", random_state=0"), True),
        (IN_TWO.replace(", stratify=labelsSEED", ", shuffle=False"), True),
        (UNDER_A_CONDITION, True),
        (f"if self.test is not None:\n    return\n{IN_TWO.replace('SEED', '')}", True),
        (FOR_VALIDATION, True),
        (FIRST_SEEDED, True),
        (FIRST_SEEDED.replace(", random_state=0", ""), False),
        ("random.shuffle(files)\nself.train = Images(files[:80])\nself.test = Images(files[80:])", False),
    ],
)
def test_a_data_module_draws_its_split_once(setup: str, right: bool) -> None:
    text = MODULE.replace("SETUP", textwrap.indent(setup.strip(), 8 * " ").strip())
    assert len(read(text, SPLIT_OVERLAP, perceptron(), digits())) == (not right)


EVALUATES = """
def evaluate(net, data):
    for x, y in data:
        correct += (net(x).argmax(1) == y).sum()
    return correct
val_acc = evaluate(model, train_loader)
"""


@pytest.mark.parametrize(
    ("more", "faulty"),
    [
        ("", True),
        ("print(evaluate(model, val_loader))", False),
        ("for x, y in val_loader: x", False),
        ("def shown(val_loader): return next(iter(val_loader))", True),  # a parameter of that name
        ("def shown(net): return next(iter(val_loader))", False),
    ],
)
@pytest.mark.each_nth(1)
def test_evaluation_of_the_training_data_is_named(more: str, faulty: bool) -> None:
    model, train, val = perceptron(), digits(), digits(100, 200)
    source = source_of(EVALUATES + more, model=model, train_loader=train, val_loader=val)
    setup = make_setup(model, train, val, source=source)
    with state_preserved(setup):
        said = list(SPLIT_OVERLAP.run(Evidence(setup, Clock(120.0))))
    assert [finding.code for finding in said] == ["data.split-overlap"] * faulty
    assert not faulty or said[0].remedy == "`val_loader` instead of `train_loader` there"


@pytest.mark.parametrize("used", [False, True])
def test_data_of_validation_are_read_somewhere(used: bool) -> None:
    split = "train_data, val_data = whole[:48], whole[48:]\n"
    batch = f"def get_batch(split):\n    return train_data if split == 'train' else {'val' if used else 'train'}_data\n"
    names = values() | {"whole": torch.arange(64), "train_data": torch.arange(48), "val_data": torch.arange(48, 64)}
    text = split + batch + "names = ['train', 'val']\n" + SCRIPT
    assert codes_of_script(text, names, SPLIT_OVERLAP) == ["data.split-overlap"] * (not used)


@pytest.mark.parametrize(("drawn", "wrong"), [("order[:48]", True), ("order", False)])
def test_an_order_of_training_samples_alone_is_no_split(drawn: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        class Waves(LightningDataModule):
            def setup(self, stage=None):
                order = torch.randperm(len(y))
                self.train = TensorDataset(x[{drawn}], y[{drawn}])
                self.test = {"TensorDataset(x[order[48:]], y[order[48:]])" if wrong else "held_out"}
            def test_dataloader(self):
                return DataLoader(self.test)
        trainer.fit(module, Waves())
        trainer.test(module, Waves())
        """)
    assert codes_of_script(text, values(), SPLIT_OVERLAP) == ["data.split-overlap"] * wrong


@pytest.mark.parametrize(
    ("made", "also", "wrong"),
    [
        ("DataLoader(test_set)", "", True),
        ("DataLoader(val_set)", "", False),
        ("DataLoader(test_set)", "tried = DataLoader(val_set)", False),
        ("DataLoader(test_set)", "everything = ConcatDataset([train_set, val_set])", False),
    ],
    ids=["of testing", "of validation", "in another loader", "in training"],
)
def test_a_loader_of_validation_reads_the_data_of_validation(made: str, also: str, wrong: bool) -> None:
    names: dict[str, Any] = values() | {"DataLoader": DataLoader, "ConcatDataset": ConcatDataset}
    for part in ("train_set", "val_set", "test_set"):
        names[part] = TensorDataset(torch.rand(20, 1, 8, 8), torch.arange(20) % 4)
    text = f"{also}\nval_loader = {made}\n"
    exec(text, names)
    assert list(found(text + SCRIPT, names, [SPLIT_OVERLAP])) == ["data.split-overlap"] * wrong


def test_data_of_validation_that_are_missing_may_be_those_of_testing() -> None:
    names = values() | {"test_set": TensorDataset(torch.rand(20, 1, 8, 8), torch.arange(20) % 4)}
    names["val_loader"] = DataLoader(names["test_set"])
    assert not found("val_loader = DataLoader(test_set)\n" + SCRIPT, names, [SPLIT_OVERLAP])


@pytest.mark.parametrize("asked", ["loader", "val_loader"])
def test_a_loop_evaluates_on_other_samples_than_are_trained_on(asked: str) -> None:
    """`SCRIPT` iterates over `val_loader`."""
    text = SCRIPT.replace("in val_loader", f"in {asked}")
    assert list(found(text, values(), [SPLIT_OVERLAP])) == ["data.split-overlap"] * (asked == "loader")


def test_a_loop_that_asks_a_teacher_trains() -> None:
    text = SCRIPT[: SCRIPT.index("    model.eval()")] + "teacher = model\n"
    asks = "        with torch.no_grad():\n            wanted = teacher(x)\n"
    text = text.replace("        optimizer.zero_grad()\n", f"        optimizer.zero_grad()\n{asks}")
    names = values()
    assert asks in text
    assert not found(text, names | {"teacher": names["model"]}, [SPLIT_OVERLAP])


def test_numbers_that_repeat_are_values() -> None:
    """As of the tokens of a text, of which both parts have the same."""
    assert positions(torch.arange(40) % 25) == set(range(25))  # drawn with some repeats
    assert positions(torch.arange(400) % 25) == set()
    assert positions(torch.arange(400) % 2 == 0) == set(range(0, 400, 2))
