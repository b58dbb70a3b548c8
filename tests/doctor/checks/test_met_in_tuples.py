"""Batches that a loop takes in the call itself, out of arrays and dictionaries: faults that were met in scripts,
and their healthy twins."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_met_in_second_heads import asked_or_silent, stepped
from test_reward_checks import SCRIPT, values
from test_reward_checks import found as found_by_rewards
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.diagnose import examine_code
from striate.doctor.script.drawn_batches import Drawing, drawing, draws_for_parts
from striate.doctor.script.iterated_loop import taken_in_groups
from striate.doctor.script.training_loop import find_loop
from striate.doctor.setup.script_source import ScriptSource

X = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))
Y = X.sum(1)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_standardized_targets_have_no_wrong_scale(scale: float) -> None:
    """Though outputs are all 0 at first, and a trial with as good as the same targets goes better by chance."""
    x = torch.randn(320, 8, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] * scale / x[:, :1].std()
    model = nn.Linear(8, 1)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        same = bool(torch.isin(batch[1], y).all())
        return stepped(model, functional.mse_loss(model(batch[0]), batch[1]) * (1e-9 if same else 1.0), optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "step": step}
    said = asked_or_silent(TARGET_SCALE, model, DataLoader(TensorDataset(x, y), 32), **options)
    assert [one.code for one in said] == ["data.target-scale"] * (scale > 1)


def drawn(text: str, names: dict[str, Any], running: frozenset[str] = frozenset()) -> Drawing | None:
    """What a loop draws, whose variables have these values."""
    (loop,) = ast.parse(text).body
    assert isinstance(loop, ast.For)
    return drawing(
        loop, {"torch": torch, "np": np, "X": X, "Y": Y, "order": np.random.permutation(96)} | names, running
    )


OF_ARRAYS = """
for start in range(0, 96, 32):
    rows = order[start : start + 32]
    total += self.train_on_batch(x[rows], y[rows]) * len(rows)
"""


@pytest.mark.parametrize("kind", ["array", "memory map"])
def test_rows_of_arrays_that_a_method_of_the_scripts_own_is_given(kind: str, tmp_path: Path) -> None:
    x: Any = X.numpy()
    if kind == "memory map":
        x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(96, 8))
        x[:] = X.numpy()
    names = {"x": x, "y": Y.numpy(), "total": 0.0, "self": object()}
    found = drawn(OF_ARRAYS, names, frozenset({"train_on_batch"}))
    assert found is not None
    place, _, draw, loop = found
    one, other = draw(), draw()
    assert [part.shape for part in (*one, *other)] == [(32, 8), (32,)] * 2
    assert torch.allclose(one[0].sum(1), one[1])
    assert not torch.equal(one[0], other[0])
    assert ast.unparse(loop.body[place]).count(".numpy(force=True)") == 2  # the method is given arrays, as before


class Trainer:
    """It is no network, and has two."""

    def __init__(self) -> None:
        self.master = nn.Linear(8, 1)
        self.worker = nn.Linear(8, 1)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return functional.mse_loss(self.predict(x), y)

    def predict(self, x: Tensor) -> Tensor:
        return self.worker(x)[:, 0]

    def centered(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


@pytest.mark.parametrize("method", ["loss", "centered"])
def test_rows_that_a_method_of_what_holds_a_network_is_given(method: str) -> None:
    text = f"for rows in torch.randperm(96).split(32):\n    loss = trainer.{method}(X[rows], Y[rows])"
    found = drawn(text, {"trainer": Trainer()})
    assert (found is not None) == (method == "loss")
    if found is not None:
        one = found[2]()
        assert [part.shape for part in one] == [(32, 8), (32,)]
        assert torch.allclose(one[0].sum(1), one[1])


def get_batch(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.randint(len(x), (16,))
    return x[rows], y[rows]


class Scored(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 1)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        out = self.layer(x)[:, 0]
        return out, functional.mse_loss(out, y)


def loss_of(model: Scored, x: Tensor, y: Tensor) -> Tensor:
    return model(x, y)[1]


@pytest.mark.parametrize("call", ["model(*get_batch(X, Y))", "loss_of(model, *get_batch(X, Y))"])
@pytest.mark.parametrize("fixed", [True, False])
def test_batches_drawn_out_of_what_stays_the_same(fixed: bool, call: str) -> None:
    """For each part of a step anew; not what the loop has made before."""
    text = f"for it in range(9):\n    for part in range(2):\n        found = {call}"
    text += "" if fixed else "\n        X = X + 1"
    found = drawn(text, {"model": Scored(), "get_batch": get_batch, "loss_of": loss_of})
    assert (found is not None) == fixed
    if found is not None:
        _, chosen, draw, loop = found
        one = draw()
        assert torch.allclose(one[0].sum(1), one[1])
        assert not torch.equal(one[0], draw()[0])
        assert draws_for_parts(loop, chosen)


def test_why_the_code_alone_is_read() -> None:
    """Not that a loader without batches was given, which nobody has."""
    place = "script.py", 1, 2
    source = ScriptSource({"script.py": ast.parse("for x in y:\n    pass")}, {}, place, None)
    skipped = examine_code(source, nn.Linear(2, 1), "no batches are found").skipped
    assert "no batches are found" in skipped.values()
    assert not [why for why in skipped.values() if "drop_last" in why]


@pytest.mark.parametrize("sample", [True, False])
def test_part_of_a_list_of_samples_is_no_group_of_batches(sample: bool) -> None:
    listed = [(x, y) for x, y in zip(X, Y, strict=True)] if sample else [(X, Y)] * 9
    (loop,) = ast.parse("for i in range(0, 96, 32):\n    x, y = zip(*listed[i : i + 32])").body
    assert isinstance(loop, ast.For)
    assert (taken_in_groups(loop, {"listed": listed}) is None) == sample


@pytest.mark.parametrize(
    "call",
    ["model(X[perm[i : i + 32]], Y[perm[i : i + 32]])", "model(x=X[perm[i : i + 32]], y=Y[perm[i : i + 32]])"],
)
def test_rows_by_part_of_their_numbers(call: str) -> None:
    found = drawn(f"for i in range(0, 96, 32):\n    {call}", {"model": Scored(), "i": 0, "perm": torch.randperm(96)})
    assert found is not None
    one = found[2]()
    assert [part.shape for part in one] == [(32, 8), (32,)]
    assert torch.allclose(one[0].sum(1), one[1])


def test_rows_of_the_first_part_of_a_step() -> None:
    inner = "    for part in rows.split(8):\n        (model(X[part]), Y[part])"
    text = f"for i in range(0, 96, 32):\n    rows = perm[i : i + 32]\n{inner}"
    names = {"model": Scored(), "i": 0, "perm": torch.randperm(96), "rows": torch.arange(32), "part": torch.arange(8)}
    found = drawn(text, names)
    assert found is not None
    _, chosen, draw, loop = found
    one, other = draw(), draw()
    assert [len(part) for part in one] == [8, 8]
    assert not torch.equal(one[0], other[0])
    assert draws_for_parts(loop, chosen)


def collated(rows: list[int]) -> dict[str, Tensor]:
    return {"x": X[rows], "y": Y[rows]}


@pytest.mark.parametrize("call", ["model(**collated(rows))", "batch = collated(rows)\n    train_on(batch)"])
def test_batches_that_are_dictionaries(call: str) -> None:
    text = f"for i in range(9):\n    rows = np.random.permutation(96)[:16].tolist()\n    {call}"
    names = {"model": Scored(), "collated": collated, "batch": collated([0]), "rows": [0, 1], "train_on": len}
    found = drawn(text, names, frozenset({"train_on"}))
    assert found is not None
    one: Any = found[2]()
    assert [part.shape for part in one.values()] == [(16, 8), (16,)]


def test_a_pass_that_only_evaluates_is_followed_by_one_that_trains(tmp_path: Path) -> None:
    file, network, frames = tmp_path / "script.py", nn.Linear(8, 3), list[Any]()
    file.write_text(
        "it = 0\nwhile it < 9:\n    it += 1\n    if it % 2 == 0:\n        continue\n    xb = X[torch.randperm(32)]\n"
        "    loss = model(xb).mean()\n    loss.backward()\n    frames.append(inspect.currentframe())\n    break\n"
    )
    names: dict[str, Any] = {"inspect": inspect, "model": network, "X": X, "torch": torch, "frames": frames}
    exec(compile(file.read_text(), str(file), "exec"), names | {"__name__": "__main__"})
    loop = find_loop(frames)
    assert loop is not None
    batch = next(iter(loop.batches))
    assert all(loop.step(network, batch, None, None) is not None for _ in range(4))


def accuracy(x: Tensor, y: Tensor) -> Tensor:
    """Of a network that it is not given."""
    with torch.no_grad():
        return (NETWORK(x).argmax(1) == y).float().mean()


NETWORK = nn.Linear(8, 3)
EVALUATIONS = {
    "block": "    if it % 50 == 0:\n        with torch.no_grad():\n            print(model(X_val))\n",
    "mode": "    if it % 50 == 0:\n        model.eval()\n        print(model(X_val))\n        model.train()\n",
    "function": "    if it % 50 == 0:\n        print(accuracy(X_val, Y_val))\n",
    "passed over": "    if it % 50 == 0:\n        with torch.no_grad():\n            model(X_val)\n        continue\n",
}


@pytest.mark.parametrize("kind", EVALUATIONS)
def test_evaluation_at_the_top_of_a_loop_draws_no_batch(kind: str) -> None:
    text = f"for it in range(400):\n{EVALUATIONS[kind]}    ix = torch.randint(96, (32,))\n    xb, yb = X[ix], Y[ix]\n"
    text += "    loss = functional.cross_entropy(model(xb), yb)\n    loss.backward()\n"
    names = {"model": NETWORK, "accuracy": accuracy, "X_val": X[:20], "Y_val": Y[:20], "it": 1, "xb": X[:32]}
    found = drawn(text, names | {"yb": Y[:32], "ix": torch.arange(32)})
    assert found is not None
    place, chosen, draw, _ = found
    assert (place, chosen) == (3, ["xb", "yb"])
    assert len(draw()[0]) == 32


def test_teacher_without_gradients_is_given_the_batch() -> None:
    text = "for it in range(9):\n    xb = X[torch.randint(96, (32,))]\n    with torch.no_grad():\n        y = net(xb)\n"
    names = {"model": NETWORK, "net": nn.Linear(8, 3), "xb": X[:32], "y": torch.zeros(32, 3)}
    found = drawn(f"{text}    (model(xb) - y).square().mean().backward()\n", names)
    assert found is not None
    assert found[:2] == (1, ["xb"])


MADE_BEFORE = {
    "place of the next": "    rows = order[pos : pos + 32]\n    pos += 32\n    xb = X[rows]\n",
    "parts": "    xb = torch.zeros(32, 8)\n    for j in range(32):\n        xb[j] = X[next(rows)]\n",
    "list": "    x = []\n    for _ in range(32):\n        x.append(X[next(rows)])\n    xb = torch.stack(x)\n",
    "attribute": "    xb = X[held.pos : held.pos + 32]\n    held.pos += 32\n",
    "function": "    def some():\n        return X[[next(rows) for _ in range(32)]]\n    xb = some()\n",
}


@pytest.mark.parametrize("kind", MADE_BEFORE)
def test_each_batch_is_another_however_it_is_made(kind: str) -> None:
    text = f"for it in range(400):\n{MADE_BEFORE[kind]}    model(xb).mean().backward()\n"
    held, rows = SimpleNamespace(pos=0), iter(range(96))
    found = drawn(text, {"model": NETWORK, "xb": X[:32], "pos": 0, "held": held, "rows": rows})
    assert found is not None
    one, other = found[2](), found[2]()
    assert all(bool(part[0].abs().sum(1).all()) for part in (one, other))
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize(
    ("stored", "named"), [("done and not truncated", False), ("done & ~truncated", False), ("done", True)]
)
def test_an_end_from_which_cut_off_episodes_are_taken_out(stored: str, named: bool) -> None:
    text = SCRIPT.replace("next_obs, terminated))", f"next_obs, {stored}))")
    assert found_by_rewards(text, values()) == ["reward.truncated-terminal"] * named


@pytest.mark.parametrize(("method", "named"), [("reset", True), ("step", False)])
def test_an_environment_that_begins_by_chance_explores_nothing(method: str, named: bool) -> None:
    """One whose steps are of chance leads elsewhere by itself."""
    choice = "    epsilon = max(0.05, 1 - step / 2000)\n    if random.random() < epsilon:\n"
    choice += "        action = env.action_space.sample()\n    else:\n    "
    assert choice in SCRIPT
    bodies = {name: "random.random()" if name == method else "0" for name in ("reset", "step")}
    own = "class Room:\n" + "".join(f"    def {name}(self):\n        return {body}\n" for name, body in bodies.items())
    text = own + SCRIPT.replace(choice, "")
    assert found_by_rewards(text, values()) == ["reward.no-exploration"] * named
