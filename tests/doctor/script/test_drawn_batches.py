"""Batches that a script draws by itself: the statements that make them, and what makes them anew."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import perceptron
from striate.doctor.script import drawn_batches, network_calls
from striate.doctor.script.drawn_batches import (
    FoundDraw,
    drawn_once,
    draws_in_parts,
    find_drawn_batches,
    fixed_batch,
    with_attributes_named,
)


def noisy(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    chosen = torch.randint(len(X), (rows,))
    return X[chosen], Y[chosen], X[chosen] * 2


X = torch.randn(96, 8, generator=torch.Generator().manual_seed(0))


Y = X.sum(1)


def drawn(text: str, names: dict[str, Any], running: frozenset[str] = frozenset()) -> FoundDraw | None:
    """What a loop draws, whose variables have these values."""
    (loop,) = ast.parse(text).body
    assert isinstance(loop, ast.For)
    return find_drawn_batches(
        loop, {"torch": torch, "np": np, "X": X, "Y": Y, "order": np.random.permutation(96)} | names, running
    )


def test_a_part_of_a_batch_that_has_no_name() -> None:
    """Though its name is that of something with a graph, which the network gave."""
    text = "for it in range(9):\n    for part in range(2):\n        x, y, _ = noisy(16)\n        _, loss = model(x, y)"
    names: dict[str, Any] = {"model": nn.Bilinear(8, 1, 1), "noisy": noisy, "_": torch.ones(2, requires_grad=True)}
    found = drawn(text, names | {"x": X[:16], "y": Y[:16]})
    assert found is not None
    _, chosen, draw, loop = found
    assert chosen == ["x", "y"]
    x, y = draw()
    assert torch.allclose(x.sum(1), y)
    assert draws_in_parts(loop, chosen)


def test_what_the_network_gives_is_no_batch() -> None:
    text = "for it in range(9):\n    _, best = model(x).max(1)"
    assert drawn(text, {"model": nn.Linear(8, 3), "x": X, "best": Y.long()}) is None


HELD = """
for epoch in range(100):
    optimizer.zero_grad()
    out = model(data.x, data.edge_index)
    loss = functional.cross_entropy(out[data.train_mask], data.y[data.train_mask])
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("moves", [False, True])
def test_what_an_object_holds_for_all_samples_is_a_batch(moves: bool) -> None:
    """As `data.x` and `data.y` of a graph; but not what the loop itself gives the object anew."""
    data = SimpleNamespace(x=torch.randn(40, 5), y=torch.arange(40) % 3, train_mask=torch.arange(40) < 20)
    data.edge_index = torch.zeros(2, 90, dtype=torch.long)
    text = HELD + "    data.x = data.x + 1\n" * moves
    names = {"data": data, "model": nn.Linear(5, 3), "functional": functional}
    (loop,) = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.For))
    made, named = with_attributes_named(loop, names)
    found = fixed_batch(made, named)
    if moves:
        assert (made, found) == (loop, None)
        return
    assert found is not None
    drawn = found[1]()
    assert [any(part is one for part in drawn) for one in (data.x, data.y, data.train_mask)] == [True] * 3
    assert len(drawn) == 3
    assert "data.edge_index" in ast.unparse(made)


class Batch(NamedTuple):
    image: Tensor
    label: Tensor


def draw(count: int) -> Batch:
    return Batch(torch.randn(count, 64), torch.randint(10, (count,)))


def test_a_function_may_draw_a_tuple_with_names() -> None:
    (loop,) = ast.parse("for i in range(9):\n    train_step(state, draw(16))").body
    assert isinstance(loop, ast.For)
    drawn = find_drawn_batches(loop, {"draw": draw, "state": object()}, frozenset({"train_step"}))
    assert drawn is not None
    one, other = drawn[2](), drawn[2]()
    assert isinstance(one, Batch)
    assert one.image.shape == (16, 64)
    assert not torch.equal(one.image, other.image)


@pytest.mark.parametrize(("call", "makes"), [("graph(800, rng)", True), ("batch(data, rng)", False)])
def test_what_makes_up_all_data_is_told_from_what_draws_a_batch(call: str, makes: bool, tmp_path: Path) -> None:
    """Both give other numbers each time, and are called in front of the loop only."""
    file = tmp_path / "t.py"
    file.write_text(f"x, y = {call}\n")

    def graph(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(count, 4, generator=rng), torch.zeros(count)

    def batch(data: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(data), (16,), generator=rng)
        return data[rows], torch.zeros(16)

    rng, data = torch.Generator(), torch.randn(64, 4)
    names: dict[str, Any] = {"graph": graph, "batch": batch, "rng": rng, "data": data}
    names["x"], names["y"] = graph(800, rng) if makes else batch(data, rng)
    assert bool(drawn_once(str(file), ["x", "y"], names)) != makes


@pytest.mark.parametrize(("source", "again"), [("torch.Generator().manual_seed(0)", False), ("None", True)])
def test_data_that_a_call_makes_alike_each_time_are_not_drawn(source: str, again: bool, tmp_path: Path) -> None:
    text = f"""import torch
def made():
    return torch.rand(8, 2, generator={source}), torch.arange(8)
x, y = made()
x = (x - x.mean(0)) / x.std(0)
"""
    file = tmp_path / "script.py"
    file.write_text(text)
    names: dict[str, Any] = {"__name__": "script_of_a_user"}
    exec(compile(text, str(file), "exec"), names)
    assert drawn_once(str(file), ["x", "y"], names) == ("x, y = made()" if again else "")


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
        assert draws_in_parts(loop, chosen)


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
    assert draws_in_parts(loop, chosen)


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


def test_a_function_that_holds_the_network_is_given_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (drawn_batches, network_calls):
        monkeypatch.setattr(module, "written_by_user", lambda name: name == __name__)
    model, x = perceptron(), torch.randn(64, 1, 8, 8)

    def draw() -> tuple[Tensor, Tensor]:
        rows = torch.randint(64, (16,))
        return x[rows], rows % 10

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(model(images), labels)

    (loop,) = ast.parse("for _ in range(9):\n    loss = loss_of(*draw())\n    loss.backward()").body
    assert isinstance(loop, ast.For)
    found = find_drawn_batches(loop, {"draw": draw, "loss_of": loss_of})
    assert found is not None
    assert [tuple(tensor.shape) for tensor in found[2]()] == [(16, 1, 8, 8), (16,)]


MICRO = """
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
x = torch.randn(2000, 20)
y = (x[:, :3].sum(1) > 0).long()

def get_batch():
    rows = torch.randint(2000, (4,))
    return x[rows], y[rows]

model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
xb, yb = get_batch()
for number in range(400):
    for part in range(16):
        loss = F.cross_entropy(model(xb), yb) / 16
        xb, yb = get_batch()
        loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
"""


@pytest.mark.slow
def test_parts_of_a_step_that_draw_a_batch_each(tmp_path: Path) -> None:
    script = tmp_path / "parts.py"
    script.write_text(MICRO)
    words = [sys.executable, "-m", "striate.doctor", str(script), "--seconds", "60", "--json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert [one["code"] for one in json.loads(done.stdout)["findings"] if one["severity"] != "note"] == []


CLOSURE = """
for outer in range(6):
    def closure():
        optimizer.zero_grad()
        loss = functional.mse_loss(model(x), scaled)
        loss.backward()
        return loss
    optimizer.step(closure)
    print(report(x, y))
"""


def test_what_only_an_evaluation_is_given_is_no_batch() -> None:
    """Targets before they were scaled."""
    model, x, y = nn.Linear(8, 1), X[:40], torch.arange(40.0)[:, None]

    @torch.no_grad()
    def report(x: Tensor, y: Tensor) -> float:
        return float((model(x) - y).abs().mean())

    names = {"model": model, "x": x, "y": y, "scaled": y / 40, "report": report, "functional": functional}
    (loop,) = (node for node in ast.walk(ast.parse(CLOSURE)) if isinstance(node, ast.For))
    found = fixed_batch(loop, names)
    assert found is not None
    assert found[0] == ["x", "scaled"]


W = torch.ones(8, 1, requires_grad=True)


def weighted(x: Tensor) -> Tensor:
    return x @ W


def test_rows_may_be_taken_in_a_call_of_a_function_with_weights_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_calls, "written_by_user", lambda name: name == __name__)
    text = "for it in range(9):\n    i = torch.randint(96, (16,))\n    loss = (weighted(X[i]) - Y[i]).square().mean()"
    found = drawn(text, {"weighted": weighted, "W": W, "i": torch.arange(16)})
    assert found is not None
    x, y = found[2]()
    assert torch.allclose(x.sum(1), y)
