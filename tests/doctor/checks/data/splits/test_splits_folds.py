"""`data.leak` and `optim.parameters-missing` of folds and searches: do each fold and each rate have a network of their
own, and an optimizer for it?"""

from __future__ import annotations

import ast

import pytest
import torch

from for_checks.asked import asked, digits, perceptron, read
from for_checks.scripts import codes_of_script, found, values
from striate.doctor.checks.data.splits.folds import OPTIMIZER_OF_ANOTHER_FOLD, SHARED_BY_SETTINGS, SHARED_NETWORK
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize("numbers", ["range(CFG.n_folds)", "folds.unique().tolist()", "sorted(set(rows['fold']))"])
@pytest.mark.parametrize(("inside", "wrong"), [("", True), ("model = make()", False)])
def test_folds_may_be_counted(numbers: str, inside: str, wrong: bool) -> None:
    text = f"""
    for n in {numbers}:
        {inside}
        run(model, n)
    for x, y in loader:
        pass
    """
    model = perceptron()
    said = read(text, SHARED_NETWORK, model, digits(), names={"model": model})
    assert [one.code for one in said] == ["data.leak"] * wrong


@pytest.mark.parametrize(("put_back", "right"), [("net.load_state_dict(untrained)", True), ("pass", False)])
def test_a_network_of_all_folds_may_be_put_back(put_back: str, right: bool) -> None:
    text = f"""
def one_fold(net, rows):
    {put_back}
    for x, y in loader:
        net(x)
for fold, (rows, others) in enumerate(folds.split(images)):
    one_fold(net, rows)
"""
    names = values()
    assert list(found(text, names | {"net": names["model"]}, [SHARED_NETWORK])) == ["data.leak"] * (not right)


@pytest.mark.parametrize("right", [False, True])
def test_each_fold_has_a_network_also_in_a_function(right: bool) -> None:
    text = f"""
    def train_fold(fold):
        {"model = perceptron()" if right else "pass"}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for x, y in loader:
            step(model, x, y)
    for fold in range(5):
        train_fold(fold)
    """
    model = perceptron()
    assert len(read(text, SHARED_NETWORK, model, digits(), names={"model": model})) == (not right)


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
    assert codes_of_script(text, values(), SHARED_NETWORK) == ["data.leak"] * shared
    assert codes_of_script(text, values(), OPTIMIZER_OF_ANOTHER_FOLD) == ["optim.parameters-missing"] * stale


SEVERAL = """
BEFORE
for fold, (train_rows, val_rows) in enumerate(folds.split(rows)):
    INSIDE
    for x, y in loader:
        loss(model, x, y).backward()
        for optimizer, schedule in zip(optimizers, schedules):
            optimizer.step()
    for group in groups:
        for model in group:
            evaluate(model)
"""
LISTS = "optimizers, schedules = [Adam(dense), SparseAdam(tables)], []"


@pytest.mark.parametrize(
    ("before", "inside", "shared", "stale"),
    [
        ("", f"groups = [[make()]]\n    {LISTS}", False, False),
        (LISTS, "groups = [[make()]]", False, True),
        ("groups = [[make()]]", LISTS, True, False),
        (f"{LISTS}\ngroups = [[make()]]", "for groups in group: pass", True, False),
    ],
    ids=["both anew", "optimizers of the first", "networks shared", "in a circle"],
)
def test_what_a_loop_in_a_fold_goes_through_may_be_made_in_it(
    before: str, inside: str, shared: bool, stale: bool
) -> None:
    text = SEVERAL.replace("BEFORE", before).replace("INSIDE", inside)
    assert codes_of_script(text, values(), SHARED_NETWORK) == ["data.leak"] * shared
    assert codes_of_script(text, values(), OPTIMIZER_OF_ANOTHER_FOLD) == ["optim.parameters-missing"] * stale


@pytest.mark.parametrize("over", ["index in order.split(32)", "x, y in zip(a.split(8), b.split(8))"])
def test_batches_that_a_tensor_is_split_into_are_no_folds(over: str) -> None:
    assert not codes_of_script(
        f"model = make()\nfor {over}:\n    train(model)\nfor x, y in loader:\n    pass\n", values(), SHARED_NETWORK
    )


SEARCH = """
def train(model, lr):
    optimizer = SGD(model.parameters(), lr)
    for x, y in loader:
        step(model, optimizer, x, y)
net = Net()
for VALUE in values:
    INSIDE
    score = train(net, lr)
    KEPT
CHOSEN
"""
COMPARED = "if score > best: best, best_lr = score, lr"


@pytest.mark.parametrize(
    ("value", "inside", "kept", "chosen", "wrong"),
    [
        ("lr", "pass", COMPARED, "pass", True),
        ("lr", "pass", "scores[lr] = score", "best_lr = max(scores, key=scores.get)", True),
        ("lr", "pass", "scores.append((score, lr))", "best_lr = max(scores)[1]", True),
        ("lr", "net = Net()", COMPARED, "pass", False),
        ("lr", "net.load_state_dict(initial)", COMPARED, "pass", False),
        ("lr", "pass", "scores[lr] = score", "print(scores)", False),
        ("epoch", "pass", "if score > best: best, best_epoch = score, epoch", "pass", False),
    ],
    ids=["compared", "by value", "listed", "created anew", "put back", "a schedule", "epochs"],
)
def test_each_rate_of_a_search_trains_a_new_network(
    value: str, inside: str, kept: str, chosen: str, wrong: bool
) -> None:
    text = SEARCH.replace("VALUE", value).replace("INSIDE", inside).replace("KEPT", kept).replace("CHOSEN", chosen)
    model = perceptron()
    names = {"net": model, "model": model, "lr": 0.05, "epoch": 3, "initial": {}}
    calling = frozenset({("t.py", 5), ("t.py", 9)})
    source = ScriptSource({"t.py": ast.parse(text)}, names, ("t.py", 4, 5), 1, calling=calling)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    said = asked(SHARED_BY_SETTINGS, model, digits(), source=source, optimizer=optimizer)
    assert [one.code for one in said] == ["data.leak"] * wrong
