"""What a script keeps for validation: loaders and tensors of such names, among what its running functions see."""

from __future__ import annotations

import gc
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import perceptron
from for_checks.pictures import frame_of
from striate.doctor.script.drawn_batches import DrawnBatches
from striate.doctor.script.evaluated_arrays import unwrapped
from striate.doctor.script.training_loop import TrainingLoop
from striate.doctor.script.validation_data import _as_tensor, _is_validation_pair, find_validation


def loader(seed: int, count: int = 40) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(torch.randn(count, 3, generator=generator), torch.zeros(count)), 8)


def seen_from(names: dict[str, Any], batches: Any) -> Any:
    frame = SimpleNamespace(f_locals=names, f_globals={}, f_code=(lambda: None).__code__)
    loop = SimpleNamespace(batches=batches)
    return find_validation(loop, [frame], None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["testloader", "valloader", "valid_dl", "test_loader"])
def test_a_loader_named_like_that_of_training_is_validation(name: str) -> None:
    train, other = loader(0), loader(1)
    training = name.replace("test", "train").replace("valid", "train").replace("val", "train")
    assert seen_from({training: train, name: other}, train) is other


def test_loaders_of_a_training_to_come_may_stand_in_a_dictionary() -> None:
    train, later, other = loader(0), loader(1), loader(2)
    assert seen_from({"source": train, "loaders": {"train": later, "val": other}}, train) is not other
    assert seen_from({"loaders": {"train": train, "val": other}}, train) is other


def test_data_for_development_that_hold_training_come_behind_validation() -> None:
    x, y = torch.randn(60, 3), torch.zeros(60)
    names = {"x_dev": x, "y_dev": y, "x_val_t": x[:20].clone(), "y_val_t": y[:20].clone()}
    found = seen_from(names, loader(0))
    assert found.dataset.tensors[0] is names["x_val_t"]


@pytest.mark.parametrize(("name", "found"), [("queries", True), ("gallery", False)])
def test_queries_of_a_search_are_validation(tmp_path: Path, name: str, found: bool) -> None:
    """A gallery may have samples that were trained on."""
    file = tmp_path / "script.py"
    file.write_text("recall_at(model, queries, gallery)\n")
    x, y = torch.randn(32, 1, 8, 8), torch.arange(32) % 4
    loader, held = DataLoader(TensorDataset(x, y), 8), TensorDataset(x + 0.1, y)
    frame = frame_of(str(file), **{"loader": loader, name: held})
    val = find_validation(TrainingLoop(print, loader, "here", {}), [frame], x[:8], y[:8])
    assert (val is not None and val.dataset is held) is found


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_a_data_set_without_a_loader_is_validation(shift: float, tmp_path: Path) -> None:
    """Where its inputs are like those of training: else something scales them first."""
    file = tmp_path / "script.py"
    file.write_text("pass\n")
    x, y = torch.randn(64, 4), torch.arange(64) % 3
    names = {"val_ds": TensorDataset(x + shift, y), "train_ds": TensorDataset(x, y)}
    frame = frame_of(str(file), **names)
    batches = DataLoader(names["train_ds"], 16)
    val = find_validation(TrainingLoop(print, batches, "here", {}), [frame], x[:16], y[:16])
    assert (val is not None and val.dataset is names["val_ds"]) is (shift == 0)


@torch.no_grad()
def _predict(net: nn.Module, loader: Any) -> Tensor:
    return torch.cat([net(x) for x, _ in loader])


def test_a_teacher_asked_in_order_is_no_validation(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text("logits = predict(teacher, ordered)\n")
    x, y = torch.randn(64, 4), torch.randn(64, 3)
    train, taught = TensorDataset(x, torch.arange(64) % 3), TensorDataset(x, y)
    names = {"train_ds": train, "ordered": DataLoader(train, 16), "predict": _predict}
    frame = frame_of(str(file), **names)
    val = find_validation(TrainingLoop(print, DataLoader(taught, 16), "here", {}), [frame], x[:16], y[:16])
    assert val is not names["ordered"]


def test_arrays_are_validation_too() -> None:
    x_val, y_val = np.zeros((32, 4), np.float32), np.zeros(32, np.int64)
    frame = type("Frame", (), {"f_locals": {"x_val": x_val, "y_val": y_val}, "f_globals": {}})
    frame.f_code = test_arrays_are_validation_too.__code__  # type: ignore[attr-defined]
    val = find_validation(TrainingLoop(print, [], "here", {}), [frame], torch.zeros(8, 4))
    assert val is not None
    assert [tuple(part.shape) for part in val.dataset.tensors] == [(32, 4), (32,)]


@pytest.mark.parametrize(("named", "column"), [("X_val_t", False), ("X_val_t", True), ("X_val", True)])
def test_targets_of_validation_may_still_be_an_array(named: str, column: bool) -> None:
    names = {named: torch.zeros(32, 4), "y_val": np.ones(32, np.int64)}
    frame = type("Frame", (), {"f_locals": names, "f_globals": {}})
    frame.f_code = test_arrays_are_validation_too.__code__  # type: ignore[attr-defined]
    like = torch.zeros(8, 1) if column else torch.zeros(8)
    batches = DrawnBatches(lambda: (torch.zeros(8, 4), like))
    val = find_validation(TrainingLoop(print, batches, "here", {}), [frame], torch.zeros(8, 4), like)
    assert torch.equal(val.dataset.tensors[1], torch.ones(32, 1) if column else torch.ones(32))


@pytest.mark.parametrize("asked_so", ["net(torch.tensor(X_val).float())", "net(torch.tensor(scale(X_val)))"])
def test_arrays_are_validation_where_a_network_is_given_them_as_they_are(asked_so: str, tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(f"print({asked_so})\n")
    names = {"X_val": np.zeros((32, 4)), "y_val": np.ones(32, np.int64), "net": torch.nn.Linear(4, 1)}
    code = SimpleNamespace(co_filename=str(file), co_firstlineno=1, co_name="<module>")
    frame = SimpleNamespace(f_locals=names, f_globals=names, f_code=code)
    gc.collect()
    val = find_validation(TrainingLoop(print, [], "here", {}), [frame], torch.zeros(8, 4), torch.zeros(8))
    given = val is not None and val.dataset.tensors[0].shape == (32, 4) and val.dataset.tensors[1].sum() == 32
    assert bool(given) is ("scale" not in asked_so)


def test_validation_of_another_kind_is_none() -> None:
    """Bytes that are prepared as the network is asked about them."""
    val_images, val_labels = torch.zeros(32, 1, 4, 4, dtype=torch.uint8), torch.zeros(32)
    frame = type("Frame", (), {"f_locals": {"val_images": val_images, "val_labels": val_labels}, "f_globals": {}})
    frame.f_code = test_arrays_are_validation_too.__code__  # type: ignore[attr-defined]
    gc.collect()
    val = find_validation(TrainingLoop(print, [], "here", {}), [frame], torch.zeros(8, 1, 4, 4))
    assert val is None or val.dataset.tensors[0] is not val_images


@pytest.mark.parametrize("asked_so", ["net(normalize(x))", "net(x)"])
def test_tensors_for_validation_are_what_the_network_is_given(
    asked_so: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "script.py"
    file.write_text(f"for x, y in zip(X_test.split(8), y_test.split(8)):\n    {asked_so}\n")
    made: dict[str, Any] = {"__name__": "__main__"}
    exec("def normalize(x):\n    return (x - 0.5) / 0.1\n", made)
    assert isinstance(made["normalize"], FunctionType)
    x = 0.5 + 0.1 * torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    names = {"X_test": x, "y_test": torch.zeros(40).long(), "net": perceptron(), "normalize": made["normalize"]}
    loop_found: Any = SimpleNamespace(batches=[(torch.zeros(8, 1, 8, 8), torch.zeros(8))])
    val = find_validation(loop_found, [frame_of(str(file), **names)], (x[:8] - 0.5) / 0.1)
    mean = float(val.dataset.tensors[0].mean())
    assert abs(mean - (0.0 if "normalize" in asked_so else 0.5)) < 0.1


def test_data_of_a_development_set_are_scaled_before_they_are_asked(tmp_path: Any) -> None:
    file = tmp_path / "folds.py"
    file.write_text("scaler = Scaler().fit(X_dev[tr])\nx = scaler.transform(X_dev[tr])\nfolds = Folds().split(X_dev)\n")
    names = {"X_dev": torch.randn(40, 8), "y_dev": torch.zeros(40)}
    loop_found: Any = SimpleNamespace(batches=[(torch.zeros(8, 8), torch.zeros(8))])
    found_there = find_validation(loop_found, [frame_of(str(file), **names)], torch.zeros(8, 8))
    tensors = getattr(getattr(found_there, "dataset", None), "tensors", ())  # of any loader that is around, if not None
    assert all(tensor is not names["X_dev"] for tensor in tensors)


@pytest.mark.parametrize(("name", "found"), [("query_set", True), ("gallery_set", False)])
def test_an_object_of_the_scripts_own_keeps_data_for_validation(tmp_path: Path, name: str, found: bool) -> None:
    (file := tmp_path / "script.py").write_text("trainer.fit()\n")
    x, y = torch.randn(32, 1, 8, 8), torch.arange(32) % 4
    loader, held = DataLoader(TensorDataset(x, y), 8), TensorDataset(x + 0.1, y)
    trainer = type("Trainer", (), {"__module__": "__main__"})()
    setattr(trainer, name, held)
    frame = frame_of(str(file), loader=loader, self=trainer)
    val = find_validation(TrainingLoop(print, loader, "here", {}), [frame], x[:8], y[:8])
    assert (val is not None and val.dataset is held) is found


def test_validation_stands_in_tuples_of_tensors() -> None:
    x, time, seen = torch.rand(9, 3), torch.rand(9), torch.ones(9)
    assert _is_validation_pair("val_data", (x, time, seen))
    assert _is_validation_pair("val_data", (x, time))
    assert not _is_validation_pair("train_data", (x, time, seen))
    assert not _is_validation_pair("val_data", (x, time[:4], seen))
    assert not _is_validation_pair("val_sizes", (torch.tensor(3), torch.tensor(4)))


def test_arrays_that_run_backward_are_no_tensors() -> None:
    backward = np.arange(4.0)[::-1]
    assert _as_tensor(backward) is backward
    assert isinstance(_as_tensor(np.arange(4.0)), Tensor)


TESTS = """
@torch.no_grad()
def test(net, dl):
    return [net(x) for x, _ in dl]

def trained(net, dl):
    for x, _ in dl:
        net(x).sum().backward()
"""


@pytest.mark.parametrize(("call", "is_found"), [("test(net, tl)", True), ("trained(net, tl)", False)])
def test_what_a_function_asks_without_gradients_is_validation(call: str, is_found: bool, tmp_path: Any) -> None:
    file = tmp_path / "script.py"
    file.write_text(f"{TESTS}\n{call}\n")
    made: dict[str, Any] = {"__name__": "__main__", "torch": torch}
    exec(compile(TESTS, str(file), "exec"), made)
    train, other = loader(0), loader(1)
    names = {**made, "net": perceptron(), "dl": train, "tl": other}
    asked_loop: Any = SimpleNamespace(batches=train)
    assert (find_validation(asked_loop, [frame_of(str(file), **names)], None) is other) is is_found


LOOPED = """
def evaluate(net):
    with torch.no_grad():
        for x, _ in enumerate(tl):
            net(x)
"""


@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize("without", ["with torch.no_grad():", "if True:"])
def test_a_loader_like_that_of_training_that_is_read_without_gradients_is_validation(
    without: str, width: int, tmp_path: Any
) -> None:
    file = tmp_path / "script.py"
    file.write_text(text := LOOPED.replace("with torch.no_grad():", without))
    made: dict[str, Any] = {"__name__": "__main__", "torch": torch}
    exec(compile(text, str(file), "exec"), made)
    train, other = loader(0), loader(1)
    names = {**made, "net": perceptron(), "dl": train, "tl": other}
    asked_loop: Any = SimpleNamespace(batches=train)
    found = find_validation(asked_loop, [frame_of(str(file), **names)], torch.zeros(8, width), torch.zeros(8))
    assert (found is other) is (without != "if True:" and width == 3)


def test_a_loader_that_shuffles_and_that_no_name_leads_to_is_of_an_earlier_training() -> None:
    train = loader(0)
    left = DataLoader(TensorDataset(torch.randn(60, 3), torch.zeros(60)), 8, shuffle=True)
    asked_loop: Any = SimpleNamespace(batches=train)
    assert find_validation(asked_loop, [frame_of("script.py", dl=train)], None) is not left


@pytest.mark.parametrize(
    ("first", "later", "own"),
    [
        ("run_epoch(net, source_dl)", "run_epoch(net, train_dl)", False),
        ("run_epoch(net, source_dl)", "run_epoch(net, source_dl)", True),
        ("run_epoch(net, source_dl)\naccuracy(net, val_dl)", "run_epoch(net, train_dl)", True),
        ("for _ in range(5):\n    run_epoch(net, source_dl)\n    run_epoch(net, train_dl)", "pass", True),
    ],
)
def test_what_is_asked_behind_a_training_with_other_data_only(
    first: str, later: str, own: bool, tmp_path: Path
) -> None:
    source, train, val = (loader(seed) for seed in range(3))
    names = {"source_dl": source, "train_dl": train, "val_dl": val, "net": perceptron()}
    file = tmp_path / "script.py"
    file.write_text(f"{first}\n{later}\naccuracy(net, val_dl)\n")
    inner, outer = frame_of(str(file)), frame_of(str(file), **names)
    inner.f_code = SimpleNamespace(co_name="run_epoch", co_filename=str(file), co_firstlineno=1)
    outer.f_lineno = 1 + first.startswith("for")
    assert (find_validation(TrainingLoop(print, source, "here", {}), [inner, outer], None) is val) is own


TRAININGS = """run_epoch(teacher, source_dl, optimizer)
{made}
optimizer = SGD(net.features[1:].parameters())
for epoch in range(9):
    run_epoch(net, {trained_on}, optimizer)
    print(accuracy({asked}, val_dl), len(val_dl))
"""


@pytest.mark.parametrize(
    ("made", "trained_on", "asked", "own"),
    [
        ("net = Net()", "train_dl", "net", False),
        ("net = Net()", "train_dl", "teacher", True),
        ("net = Net()", "train_dl", "nn.Sequential(teacher, net)", True),
        ("net = Net()", "source_dl", "net", True),
        ("teacher.load_state_dict(best)", "train_dl", "net", True),
        ("teacher = net = Net()", "train_dl", "teacher", True),
    ],
)
def test_what_a_later_network_alone_is_asked_about_is_no_validation(
    made: str, trained_on: str, asked: str, own: bool, tmp_path: Path
) -> None:
    source, train, val = (loader(seed) for seed in range(3))
    names = {"source_dl": source, "train_dl": train, "val_dl": val, "teacher": perceptron()}
    file = tmp_path / "script.py"
    file.write_text(TRAININGS.format(made=made, trained_on=trained_on, asked=asked))
    frame = frame_of(str(file), **names)
    assert (find_validation(TrainingLoop(print, source, "here", {}), [frame], None) is val) is own


@pytest.mark.parametrize(
    ("evaluated", "is_found"),
    [
        ("net(b)", True),
        ("net(pair[0])", True),
        ("net(a)", False),
        ("net(also_a)", False),
        ("net(other)", False),
        ("net(of_training)", False),
        ("net(made)", False),
    ],
)
def test_what_a_network_predicts_without_gradients_is_validation(
    evaluated: str, is_found: bool, tmp_path: Path
) -> None:
    """Whatever its name; not the training data, nor what training makes, and not without targets."""
    file = tmp_path / "script.py"
    file.write_text(
        "for x, y in batches:\n    net(a[x]).sum().backward()\n"
        "    made = step(a)\n"
        f"with torch.no_grad():\n    accuracy = ({evaluated}.argmax(1).numpy() == t).mean()\n"
    )
    x, y = torch.randn(64, 4), torch.arange(64) % 3
    train = TensorDataset(x[:48], y[:48])
    names = {"net": nn.Linear(4, 3), "torch": torch, "a": x[:40].clone(), "of_training": train.tensors[0], "b": x[48:]}
    names["made"] = x[48:] + 1
    names["also_a"] = names["a"]
    names |= {"t": y[48:].numpy(), "pair": (x[48:], y[48:]), "other": torch.randn(9, 4), "t2": y[:40]}
    batches = DataLoader(train, 16)
    val = find_validation(TrainingLoop(print, batches, "here", {}), [frame_of(str(file), **names)], x[:16], y[:16])
    found = [] if val is None else val.dataset.tensors
    assert [torch.equal(one, other) for one, other in zip(found, (x[48:], y[48:]), strict=False)] == [
        True,
        True,
    ] * is_found


def test_what_is_called_may_be_a_tensor() -> None:
    assert unwrapped(torch.zeros(2)) is len
    assert unwrapped(frame_of) is frame_of


@pytest.mark.parametrize(
    ("evaluated", "is_found"),
    [
        ("(pred == y_test)", True),
        ("(pred[y_test > 4] == y_test[y_test > 4])", True),
        ("(pred == y_test[y_test > 4] - 5)", False),
        ("print(pred)", True),
    ],
)
def test_targets_that_are_read_with_other_numbers_are_no_validation(
    evaluated: str, is_found: bool, tmp_path: Path
) -> None:
    file = tmp_path / "script.py"
    file.write_text(f"high = y_test > 4\n{evaluated}\n")
    names = {"x_test": torch.randn(60, 3), "y_test": torch.arange(60) % 10}
    found = find_validation(TrainingLoop(print, loader(0), "here", {}), [frame_of(str(file), **names)], None)
    assert (found is not None) is is_found


@pytest.mark.parametrize(
    ("present", "later", "is_found"),
    [
        ("x_old", "x_train", False),
        ("x_train", "x_old", True),
        ("x_train", "x_train", True),
        ("x_old", "x_new", True),
    ],
)
def test_data_beside_those_of_a_later_call_are_no_validation(
    present: str, later: str, is_found: bool, tmp_path: Path
) -> None:
    file = tmp_path / "script.py"
    file.write_text(f"fit(net, {present}, y)\nfit(net, {later}, y)\n")
    names = {"x_test": torch.randn(60, 3), "y_test": torch.zeros(60), "x_train": torch.randn(60, 3)}
    inner = frame_of(str(file))
    inner.f_code = SimpleNamespace(co_name="fit", co_filename=str(file), co_firstlineno=1)
    outer = frame_of(str(file), **names)
    outer.f_lineno = 1
    found = find_validation(TrainingLoop(print, loader(0), "here", {}), [inner, outer], None)
    assert (found is not None) is is_found


def test_loaders_may_stand_in_a_namespace_of_an_object() -> None:
    class Learner:
        def __init__(self, **held: Any) -> None:
            self.dls = SimpleNamespace(**held)

    Learner.__module__ = "__main__"
    train, val, pair = loader(0), loader(1), torch.randn(60, 3)
    names = {"self": Learner(train=train, valid=val), "xv": pair, "yv": torch.zeros(60)}
    assert seen_from(names, train) is val


@pytest.mark.parametrize(("network", "is_found"), [("net", True), ("later", False)])
def test_what_a_later_network_predicts_is_no_validation(network: str, is_found: bool, tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(
        "fit(net, net.parameters(), x)\nlater = Net()\nfit(later, later.parameters(), z)\n"
        f"with torch.no_grad():\n    accuracy = ({network}(x_test).argmax(1) == y_test)\n"
    )
    names = {"net": nn.Linear(3, 2), "x_test": torch.randn(60, 3), "y_test": torch.zeros(60), "x": torch.randn(60, 3)}
    frame = frame_of(str(file), **names)
    frame.f_code.co_name = "fit"
    found = find_validation(TrainingLoop(print, loader(0), "here", {}), [frame], None)
    assert (found is not None) is is_found
