"""Windows of signals: those of validation are cut from other recordings than those of training."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.splits.windows_shared import WINDOWS_SHARED
from striate.doctor.evidence.clock import NoEvidence

WINDOW, HOP, RECORDINGS = 96, 32, 24


def _recordings(noise: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    time, rates = torch.arange(288) / 20, torch.randint(1, 4, (RECORDINGS, 1, 1), generator=generator)
    return torch.sin(time * rates) + noise * torch.randn(RECORDINGS, 2, 288, generator=generator)


def _windows(recordings: Tensor) -> Tensor:
    return recordings.unfold(2, WINDOW, HOP).movedim(2, 1).flatten(0, 1)


def _found(
    train: Tensor, val: Tensor, *, last: bool = False, scaled: bool = False, added: float = 0.0
) -> list[tuple[str, str]]:
    torch.manual_seed(0)
    train = train + added * torch.randn(train.shape)
    if scaled:
        train, val = ((x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True) for x in (train, val))
    if last:
        train, val = train.transpose(1, 2), val.transpose(1, 2)
    loaders = [DataLoader(TensorDataset(x, torch.arange(len(x)) % 3), 32, shuffle=x is train) for x in (train, val)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * WINDOW, 3))
    with suppress(NoEvidence):
        return [(f.code, f.severity) for f in asked(WINDOWS_SHARED, model, loaders[0], val=loaders[1])]
    return []


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("last", "scaled", "added"), [(False, False, 0.0), (True, True, 0.0), (False, True, 0.05)])
def test_windows_split_after_cutting_share_stretches(last: bool, scaled: bool, added: float) -> None:
    windows = _windows(_recordings(0.3))
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(1))
    train, val = windows[order[40:]], windows[order[:40]]
    assert _found(train, val, last=last, scaled=scaled, added=added) == [("data.leak", "error")]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3, 3.0])
def test_recordings_split_before_cutting_do_not(noise: float) -> None:
    recordings = _recordings(noise)
    assert _found(_windows(recordings[6:]), _windows(recordings[:6])) == []


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("noise", [0.1, 0.2, 0.3])
def test_waves_of_one_form_share_nothing(noise: float) -> None:
    generator = torch.Generator().manual_seed(0)
    time, phase = torch.linspace(0, 1, WINDOW), 6.28 * torch.rand(400, 1, generator=generator)
    kinds = torch.stack([torch.sin(18.8 * time + phase), torch.sin(18.8 * time + phase).sign() * 0.8])
    windows = kinds[torch.arange(400) % 2, torch.arange(400)][:, None].repeat(1, 2, 1)
    windows = windows + noise * torch.randn(windows.shape, generator=generator)
    assert _found(windows[:300], windows[300:]) == []


def test_the_end_of_a_recording_after_its_begin() -> None:
    windows = _windows(torch.cat(list(_recordings(0.3)), 1)[None])
    assert _found(windows[:160], windows[160:]) == []


@pytest.mark.parametrize("behind", [True, False])
def test_what_is_forecast_may_follow_on_what_was_trained_on(behind: bool) -> None:
    """Windows of validation that end behind the training data begin within them; where others lie between those of
    training they share all of themselves."""
    series = _recordings(0.3)[0].T.repeat(3, 1)[:800] + torch.randn(800, 2, generator=torch.Generator().manual_seed(1))
    ends = torch.arange(604, 672, 2) if behind else torch.arange(100, 596, 8) + 2
    train = torch.stack([series[start : start + WINDOW] for start in range(0, 600 - WINDOW + 1, 4)])
    val = torch.stack([series[int(end) - WINDOW : int(end)] for end in ends])
    assert [code for code, _ in _found(train, val)] == ["data.leak"] * (not behind)
