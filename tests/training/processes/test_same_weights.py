"""Several processes see what one sees, and end where it ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
import training_in_processes as worker

_WORKER = Path(worker.__file__)
_CLOSE = 1e-5
"""Of the largest difference of any weight after 30 steps, relative to the largest weight of its tensor: sums of fp32 in
another order, which training makes larger."""


def run_workers(count: int, folder: Path, cases: list[str]) -> None:
    """`count` processes as a launcher would start them, to their end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    known = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    known |= {"LOCAL_WORLD_SIZE": str(count)}
    started = [
        subprocess.Popen(
            [sys.executable, str(_WORKER), str(folder), *cases], env=known | {"RANK": str(k), "LOCAL_RANK": str(k)}
        )
        for k in range(count)
    ]
    assert [process.wait(900) for process in started] == [0] * count


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_end_as_one(count: int, tmp_path: Path) -> None:
    run_workers(count, tmp_path, [*worker.CASES])
    for case in worker.CASES:
        one = worker.train(case)
        several = [torch.load(tmp_path / f"{case}-{rank}.pt", weights_only=True) for rank in range(count)]
        for which in ("model", "ema"):
            for name, expected in one[which].items():
                assert all(torch.equal(several[0][which][name], other[which][name]) for other in several), (case, name)
                difference = (several[0][which][name] - expected).abs().max()
                assert difference <= _CLOSE * max(1e-2, expected.abs().max()), (case, which, name, difference)
        for rows in zip(one["rows"], *(other["rows"] for other in several), strict=True):
            assert all(row == rows[1] for row in rows[1:])
            assert rows[1] == pytest.approx(rows[0], rel=0.02, abs=0.02), case
        _same_samples(case, one["seen"], [other["seen"] for other in several])


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 4])
def test_in_fixed_parts_any_number_of_processes_ends_with_the_same_bits(count: int, tmp_path: Path) -> None:
    run_workers(count, tmp_path, [*worker.FIXED])
    for case in worker.FIXED:
        one = worker.train(case)
        for rank in range(count):
            other = torch.load(tmp_path / f"{case}-{rank}.pt", weights_only=True)
            for which in ("model", "ema"):
                for name, expected in one[which].items():
                    assert torch.equal(other[which][name], expected), (case, rank, which, name)
            assert other["losses"] == one["losses"], (case, rank)
            assert other["rows"] == one["rows"], (case, rank)


AFTER_500 = {"long": 1e-4, "long-normalized": 5e-2}
"""Of the largest difference of any weight, relative to the largest weight of its tensor. Batch normalization divides by
what is small, and a maximum between two numbers that rounding tells apart sends its gradient elsewhere."""


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_after_500_steps_rounding_is_still_rounding(count: int, tmp_path: Path) -> None:
    run_workers(count, tmp_path, [*AFTER_500])
    for case, bound in AFTER_500.items():
        one, other = worker.train(case), torch.load(tmp_path / f"{case}-0.pt", weights_only=True)
        assert len(one["losses"]) == 500
        assert other["losses"][:100] == pytest.approx(one["losses"][:100], rel=1e-5), case
        for name, expected in one["model"].items():
            difference = (other["model"][name] - expected).abs().max()
            assert difference <= bound * max(1e-2, expected.abs().max()), (case, name, difference)
        assert other["rows"][-1]["val_accuracy"] == pytest.approx(one["rows"][-1]["val_accuracy"], abs=0.02)


def _same_samples(case: str, expected: list[list[int]], seen: list[list[list[int]]]) -> None:
    for whole, *parts in zip(expected, *seen, strict=True):
        if case == "mixed":  # each prepares the whole batch
            assert all(part == whole for part in parts)
        else:
            assert list(chain(*parts)) == whole
