"""Weights kept in dictionaries, a decay by hand, and runs with several networks or tasks: faults that were met in
scripts, and their healthy twins."""

from __future__ import annotations


import pytest
from torch import nn

from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import NetworkCall, OwnRun, Rights, Watcher


@pytest.mark.parametrize("teacher", [True, False])
def test_a_teacher_keeps_its_weights_while_another_network_is_compared(teacher: bool) -> None:
    rights = {at: Rights([right], [100]) for at, right in ((10, 20), (20, 60), (30, 90))}
    watcher = Watcher(float("inf"), {})
    network = watcher.of(nn.Linear(3, 4))
    numbers = dict.fromkeys(rights, 1.0) if teacher else {10: 1.0, 20: 2.0, 30: 3.0}
    network.calls = [NetworkCall(at, False, False, (3,), 0.0, 1.0, number) for at, number in numbers.items()]
    network.after = 1.0
    run = OwnRun(steps=30, networks=watcher.run.networks, compared={0: rights}, ended=True)
    assert [one.code for one in findings_of(run)] == ["eval.worst-kept"] * (not teacher)
