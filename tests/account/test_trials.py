"""Trials of networks put back what belongs to the whole process too, and blame nobody for what is not his fault."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from striate import summarize
from striate.account.field.effective import effective_receptive_field
from striate.account.observing import observer
from striate.account.observing.observation import trying
from striate.errors import ModelError
from striate.models.check import check_forward
from striate.models.preserved_state import on_trial


class NotCopied(nn.Module):
    """Cannot be copied, and waits in its forward pass until `others` have begun one, or for as long as that may take
    where they cannot."""

    def __init__(self, others: int = 1) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.met = threading.Barrier(others)

    def __deepcopy__(self, memo: object) -> None:
        raise TypeError("not copied")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            self.met.wait(0.05)
        except threading.BrokenBarrierError:
            self.met.reset()
        return self.bn(self.conv(x))


def process() -> tuple[object, ...]:
    backends = torch.backends
    return backends.mkldnn.enabled, backends.cudnn.enabled, backends.mha.get_fastpath_enabled(), sys.stdout, sys.stderr


def together(work: Callable[[], object], threads: int = 3) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work) for _ in range(threads)]:
            done.result()


TRIALS: dict[str, Callable[[nn.Module], object]] = {
    "summarize": lambda network: summarize(network, (1, 6, 6)),
    "check": lambda network: check_forward(network, (1, 6, 6)),
    "effective": lambda network: effective_receptive_field(network, (1, 6, 6), samples=1),
}


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("trial", TRIALS)
def test_threads_leave_network_and_process_as_they_were(trial: str) -> None:
    network, before = NotCopied(others=3), process()
    together(lambda: TRIALS[trial](network))
    assert process() == before
    assert all(part.training for part in network.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


def test_threads_get_the_same_account() -> None:
    network, found = NotCopied(others=3), []
    together(lambda: found.append(summarize(network, (1, 6, 6))))
    assert found[0] == found[1] == found[2]


def test_one_trial_waits_for_the_other() -> None:
    inside, order = threading.Event(), []

    def second() -> None:
        inside.wait()
        with trying(nn.Linear(2, 2), numbers=True):
            order.append("second")

    other = threading.Thread(target=second)
    other.start()
    with on_trial(nn.Linear(2, 2)):
        inside.set()
        other.join(0.05)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_a_fault_of_the_account_is_no_mistake_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(_operation: object) -> None:
        raise KeyError("our own bug")

    monkeypatch.setattr(observer, "arithmetic", faulty)
    with pytest.raises(KeyError, match="our own bug"):
        summarize(nn.Linear(4, 3), (4,))
    with pytest.raises(KeyError, match="our own bug"):
        summarize("mnist-cnn")
    with pytest.raises(KeyError, match="our own bug"):
        summarize(nn.Linear(4, 3, device="meta"), (4,))


class Squeezed(nn.Module):
    """Takes batches of two and more."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, _ = self.fc(x).squeeze().shape
        return x.reshape(rows, -1)


def test_a_network_that_drops_the_batch_axis_is_told_so() -> None:
    with pytest.raises(ModelError, match="for a batch of one") as caught:
        summarize(Squeezed(), (4,))
    assert "flatten(1)" in caught.value.remedy
    assert "ValueError" in caught.value.got


def test_a_network_without_numbers_that_cannot_be_copied() -> None:
    with torch.device("meta"):
        network = NotCopied()
    assert summarize(network, (1, 6, 6)).macs == 4 * 4 * 2 * 9


def test_a_lazy_layer_is_given_its_own_number_format() -> None:
    assert summarize(nn.Sequential(nn.Flatten(), nn.LazyLinear(3, dtype=torch.float64)), (1, 2, 2)).macs == 12


def test_what_a_network_prints_while_its_field_is_measured_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    class Talking(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            print("forward")
            return super().forward(x)

    effective_receptive_field(Talking(1, 1, 3), (1, 6, 6), samples=1)
    shown = capsys.readouterr()
    assert (shown.out, "forward" in shown.err) == ("", True)


def test_hooks_on_the_network_are_part_of_what_it_computes() -> None:
    network, kept = nn.Sequential(nn.Linear(4, 3)), []
    network[0].register_forward_hook(lambda _layer, _given, output: torch.cat([output, output], 1))
    network.register_forward_hook(lambda _layer, _given, output: kept.append(output))
    ledger = summarize(network, (4,))
    assert ledger.output == ledger.rows[0].out_shape == (6,)
    assert kept
    assert all(output.is_meta for output in kept)
    assert len(network._forward_hooks) == len(network[0]._forward_hooks) == 1
