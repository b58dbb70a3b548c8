from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score
from torch import nn

from striate.data.dataset import Split
from striate.data.store.stored import StoredInputs
from striate.errors import DataError, ModelError, UsageError
from striate.evaluation.evaluate import evaluate_split

CLASSES = ("a", "b", "c", "d")


def scale(x):
    return x.float() / 255


def images(n=50, seed=0):
    made = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, 256, (n, 1, 6, 6), dtype=torch.uint8, generator=made)
    targets = torch.randint(0, 3, (n,), generator=made)  # class d has no sample
    return Split(inputs, targets, torch.arange(n) * 7)


def network(outputs=4):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(48, outputs),
    )


def evaluate(module, task, split, **options):
    arguments = {"normalize": scale, "device": "cpu", "data_name": "noise", "split_name": "test"}
    return evaluate_split(module, task, split, **{**arguments, "classes": CLASSES, **options})


def test_agrees_with_scikit_learn(classify):
    module, split = network(), images()
    result = evaluate(module, classify(4), split, batch=7)
    module.eval()
    with torch.no_grad():
        logits = module(scale(split.inputs))
    truth, answer = split.targets.numpy(), logits.argmax(1).numpy()
    assert torch.allclose(torch.as_tensor(result.decoded), logits.softmax(1), atol=1e-6)
    assert result.metrics["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, split.targets)), rel=1e-5)
    np.testing.assert_array_equal(result.confusion, confusion_matrix(truth, answer, labels=range(4)))
    for k, row in enumerate(result.per_class[:3]):
        one = {"labels": [k], "average": "macro", "zero_division": 0}
        assert row.n == (truth == k).sum()
        assert row.recall == pytest.approx(recall_score(truth, answer, **one))
        assert (row.precision or 0.0) == pytest.approx(precision_score(truth, answer, **one))
        assert row.f1 == pytest.approx(f1_score(truth, answer, **one))
        assert row.recall_interval.low <= row.recall <= row.recall_interval.high
    assert result.n == result.metrics["n"] == 50
    low, high = result.metrics["accuracy_interval"]
    assert low < result.metrics["accuracy"] < high
    assert result.metrics["accuracy"] == np.trace(result.confusion) / 50
    np.testing.assert_array_equal(result.ids, split.ids.numpy())


def test_a_class_without_samples_is_unknown_and_not_zero(classify):
    class Always(nn.Module):
        def forward(self, x):
            return torch.tensor([0.0, 5.0, 0.0, 0.0]).repeat(len(x), 1)

    rows = evaluate(Always(), classify(4), images()).per_class
    assert (rows[3].n, rows[3].recall, rows[3].precision, rows[3].f1) == (0, None, None, None)
    assert (rows[0].recall, rows[0].precision, rows[0].f1) == (0.0, None, 0.0)
    assert rows[1].recall == 1.0


@pytest.mark.parametrize("batch", [1, 7, 50, 512])
def test_the_batch_does_not_matter(classify, batch):
    whole = evaluate(network(), classify(4), images())
    parts = evaluate(network(), classify(4), images(), batch=batch)
    np.testing.assert_allclose(parts.decoded, whole.decoded, atol=1e-6)
    assert parts.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-5)


class Reading:
    """The images of `images`, in a file so to say; `second` is set once the second batch is being read."""

    piece = None
    dtype = np.dtype(np.uint8)

    def __init__(self, inputs, batch):
        self.inputs, self.batch, self.shape = inputs.numpy(), batch, tuple(inputs.shape)
        self.second = threading.Event()

    def read(self, rows, out):
        out[...] = self.inputs[rows]
        if rows.max() >= self.batch:
            self.second.set()


def test_stored_images_are_read_while_the_network_computes(classify, monkeypatch):
    monkeypatch.setattr("striate.data.loader._WINDOW_BATCHES", 1)
    split = images()
    source = Reading(split.inputs, batch=10)
    stored = replace(split, inputs=StoredInputs(source, np.arange(50)))

    class Waiting(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x):
            assert source.second.wait(10), "the next batch is not read before this one is done"
            return self.body(x)

    result = evaluate(Waiting(), classify(4), stored, batch=10)
    np.testing.assert_array_equal(result.decoded, evaluate(network(), classify(4), split, batch=10).decoded)


class Restless(nn.Module):
    """Draws numbers, counts its calls in place and anew, and can fail."""

    def __init__(self, fails=False):
        super().__init__()
        self.body, self.fails = network(), fails
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x):
        torch.rand(3)
        self.calls += 1
        self.last = x.mean().reshape(1)
        if self.fails:
            raise RuntimeError("broken")
        return self.body(x)


@pytest.mark.parametrize("fails", [False, True])
def test_looking_changes_nothing(classify, fails):
    module = Restless(fails)
    module.body[1].eval()  # a frozen normalization inside a network in train mode
    module.body(torch.rand(4, 1, 6, 6)).sum().backward()
    modes = [part.training for part in module.modules()]
    state = {name: value.clone() for name, value in module.state_dict().items()}
    grads = [p.grad.clone() for p in module.parameters()]
    flags = [p.requires_grad for p in module.parameters()]
    random = torch.random.get_rng_state()
    if fails:
        with pytest.raises(RuntimeError, match="broken"):
            evaluate(module, classify(4), images())
    else:
        evaluate(module, classify(4), images())
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(torch.equal(p.grad, grad) for p, grad in zip(module.parameters(), grads, strict=True))
    assert [p.requires_grad for p in module.parameters()] == flags
    assert torch.equal(torch.random.get_rng_state(), random)
    assert not module.last.is_inference()
    assert torch.is_grad_enabled()


def test_a_graph_that_awaits_backward_survives(classify):
    module = network().train()
    loss = module(torch.rand(4, 1, 6, 6)).sum()
    evaluate(module, classify(4), images())
    loss.backward()
    assert module[0].weight.grad is not None


def test_evaluates_in_eval_mode(classify):
    module = network().train()
    first, second = (evaluate(module, classify(4), images()).decoded for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_regression(regress):
    made = torch.Generator().manual_seed(0)
    x, y = torch.rand(20, 3, generator=made), torch.rand(20, 1, generator=made)
    result = evaluate(nn.Linear(3, 1), regress(), Split(x, y, torch.arange(20)), normalize=lambda x: x, classes=())
    assert result.metrics["rmse"] == pytest.approx(result.metrics["loss"] ** 0.5, rel=1e-5)
    assert result.confusion is None
    assert "accuracy_interval" not in result.metrics
    assert "confusion" not in result.to_json()


def test_progress_counts_samples(classify):
    seen = []
    evaluate(network(), classify(4), images(), batch=20, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(20, 50), (40, 50), (50, 50)]


def test_json_is_plain(classify):
    document = json.loads(json.dumps(evaluate(network(), classify(4), images()).to_json()))
    assert document["n"] == 50
    assert document["data"] == "noise"
    assert len(document["accuracy_interval"]) == 2
    assert sum(map(sum, document["confusion"])) == 50
    assert document["per_class"][3]["recall"] is None
    assert document["per_class"][0]["name"] == "a"


def test_wrong_requests(classify):
    with pytest.raises(DataError, match="no samples"):
        evaluate(network(), classify(4), images(0))
    with pytest.raises(UsageError, match="batch=0"):
        evaluate(network(), classify(4), images(), batch=0)
    module = network()
    nn.init.constant_(module[5].bias, float("nan"))
    with pytest.raises(ModelError, match="50 of 50 samples"):
        evaluate(module, classify(4), images())
