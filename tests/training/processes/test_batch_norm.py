"""Normalization over all processes is normalization over the whole batch."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from striate.training.processes import batch_norm
from striate.training.processes.batch_norm import whole_batch_statistics


class Threads:
    """Processes played by threads of this one: `all_reduce` sums what each of them gives."""

    def __init__(self, count: int) -> None:
        self._barrier, self._given = threading.Barrier(count, timeout=20), {}
        self.count = count

    def all_reduce(self, values: torch.Tensor) -> None:
        self._given[threading.get_ident()] = values.clone()
        self._barrier.wait()
        total = torch.stack([self._given[key] for key in sorted(self._given)]).sum(0)
        self._barrier.wait()
        values.copy_(total)

    def run(self, work: Callable[[int], None]) -> None:
        failed: list[BaseException] = []

        def guarded(rank: int) -> None:
            try:
                work(rank)
            except BaseException as error:  # an assertion of a thread would be lost
                failed.append(error)
                self._barrier.abort()

        threads = [threading.Thread(target=guarded, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Threads]:
    def make(count: int) -> Threads:
        threads = Threads(count)
        monkeypatch.setattr(batch_norm.distributed, "all_reduce", threads.all_reduce)
        return threads

    return make


LAYERS = {
    "1d": (lambda: nn.BatchNorm1d(5), (12, 5)),
    "series": (lambda: nn.BatchNorm1d(3), (7, 3, 4)),
    "2d": (lambda: nn.BatchNorm2d(3, momentum=None), (9, 3, 5, 4)),
    "3d": (lambda: nn.BatchNorm3d(2, eps=1e-3), (6, 2, 3, 3, 3)),
    "no weights": (lambda: nn.BatchNorm2d(3, affine=False), (8, 3, 2, 2)),
    "no statistics": (lambda: nn.BatchNorm2d(3, track_running_stats=False), (8, 3, 2, 2)),
}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_parts_are_normalized_as_the_whole(kind: str, count: int, together: Callable[[int], Threads]) -> None:
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    # Far from 0: where a mean is subtracted late, nothing would be left of the variance.
    x, grad = 1000 + torch.randn(shape), torch.randn(shape)
    expected, inputs = make().train(), x.clone().requires_grad_()
    first = expected(inputs)
    (first * grad).sum().backward()

    layers = [make().train() for _ in range(count)]
    parts = [part.clone().requires_grad_() for part in x.tensor_split(count)]
    outputs: dict[int, torch.Tensor] = {}

    def work(rank: int) -> None:
        with whole_batch_statistics(layers[rank], together=True):
            outputs[rank] = layers[rank](parts[rank])
            (outputs[rank] * grad.tensor_split(count)[rank]).sum().backward()

    together(count).run(work)
    assert torch.allclose(torch.cat([outputs[k] for k in range(count)]), first, atol=2e-3)
    assert torch.allclose(torch.cat([part.grad for part in parts]), inputs.grad, atol=2e-3)
    for name, parameter in expected.named_parameters():
        found = sum(layer.get_parameter(name).grad for layer in layers)
        assert torch.allclose(found, parameter.grad, rtol=1e-3, atol=2e-3)
    for name, buffer in expected.named_buffers():
        assert all(torch.allclose(layer.get_buffer(name), buffer, rtol=1e-4) for layer in layers)


def test_what_evaluates_and_what_comes_after_is_as_ever(together: Callable[[int], Threads]) -> None:
    layer, x = nn.BatchNorm2d(3).eval(), torch.randn(4, 3, 2, 2)
    expected = layer(x)
    together(1)
    with whole_batch_statistics(layer, together=True):
        assert torch.equal(layer(x), expected)
    assert "forward" not in vars(layer)
    with pytest.raises(RuntimeError, match="x"), whole_batch_statistics(layer, together=True):
        raise RuntimeError("x")
    assert "forward" not in vars(layer)
    with whole_batch_statistics(layer, together=False):
        assert "forward" not in vars(layer)
