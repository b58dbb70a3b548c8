"""`data.leak` of signals and clips: do training windows contain stretches of validation windows?"""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, asked_in_script, digits, said
from for_checks.networks import two_layers
from striate.doctor.checks.data.splits.leak import LEAK
from striate.doctor.checks.data.splits.windows_shared import WINDOWS_SHARED
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.script_source import ScriptSource


def windows(series: Tensor) -> Tensor:
    return series.unfold(0, 24, 2).transpose(1, 2)


@pytest.mark.parametrize("first_cut", [True, False])
def test_windows_in_variables_that_were_cut_before_the_split(first_cut: bool) -> None:
    series = torch.randn(900, 4, generator=torch.Generator().manual_seed(0))
    train, valid = windows(series[:700]), windows(series[700:])
    if first_cut:
        cut = windows(series)[torch.randperm(439, generator=torch.Generator().manual_seed(1))]
        train, valid = cut[:350], cut[350:]
    text = "for x in loader:\n    pass\n"
    source = ScriptSource({"train.py": ast.parse(text)}, {"train": train, "valid": valid}, ("train.py", 1, 2), 1)
    loader = DataLoader(TensorDataset(train, train), 32)
    said: list[Any] = []
    with suppress(NoEvidence):
        said = asked(WINDOWS_SHARED, nn.Linear(4, 4), loader, loss=nn.MSELoss(), task="regress", source=source)
    assert [one.code for one in said] == ["data.leak"] * first_cut


def _clips(videos: Tensor) -> Tensor:
    """Of videos (N, 3, 12, 8, 8) all clips of 8 frames."""
    return videos.unfold(2, 8, 1).movedim((2, -1), (1, 3)).flatten(0, 1).contiguous()


@pytest.mark.parametrize(("noise", "shared", "wrong"), [(0.1, True, True), (0.1, False, False), (0.0, True, False)])
def test_clips_of_one_video_are_on_one_side(noise: float, shared: bool, wrong: bool) -> None:
    torch.manual_seed(0)
    videos = torch.rand(40, 3, 1, 8, 8).repeat(1, 1, 12, 1, 1)
    for frame in range(12):  # a bar moves alike in all of them
        videos[:, :, frame, :, frame % 8] = 1.0
    videos += noise * torch.randn_like(videos)
    clips = _clips(videos)
    order = torch.randperm(len(clips)) if shared else torch.arange(len(clips))
    train, val = clips[order[50:]], clips[order[:50]]
    train = train * torch.empty(len(train), 1, 1, 1, 1).uniform_(0.8, 1.2) + 0.3 * noise * torch.randn_like(train)
    loaders = [DataLoader(TensorDataset(x, torch.arange(len(x)) % 3), 32, shuffle=x is train) for x in (train, val)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 64, 3))
    said = asked_in_script(WINDOWS_SHARED, model, loaders[0], val=loaders[1])
    assert [one.code for one in said] == ["data.leak"] * wrong


@pytest.mark.parametrize("measured", [True, False])
def test_stretches_of_yes_and_no_agree_by_chance(measured: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(900, generator=generator)
    series = steps if measured else (steps > 1).float()
    rows = series.unfold(0, 40, 3)
    data = [DataLoader(TensorDataset(part, part[:, 0]), 32) for part in (rows[::2], rows[1::2])]
    found: list[Any] = []
    with suppress(NoEvidence):
        found = asked(WINDOWS_SHARED, nn.Linear(40, 1), data[0], val=data[1], loss=functional.mse_loss, task="regress")
    assert len(found) == measured


@pytest.mark.parametrize("shuffled", [False, True])
def test_short_windows_that_were_split_at_random(shuffled: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    series = torch.sin(torch.arange(700) / 8) + 0.3 * torch.randn(700, generator=generator)
    x = series.unfold(0, 18, 1)[:-1, :, None]
    y = series[18:]
    order = torch.randperm(len(x), generator=generator) if shuffled else torch.arange(len(x))
    train, val = order[:500], order[520:]
    model = nn.Sequential(nn.Flatten(), two_layers(18, 1), nn.Flatten(0))
    if shuffled:
        assert asked(WINDOWS_SHARED, model, (x[train], y[train]), val=(x[val], y[val]), task="regress")
    else:
        with pytest.raises(NoEvidence, match="too short"):
            asked(WINDOWS_SHARED, model, (x[train], y[train]), val=(x[val], y[val]), task="regress")


def clips(count: int) -> Tensor:
    """A block that moves one of four ways, in noise: (N, T, H, W, C)."""
    found = 0.1 * torch.randn(count, 6, 12, 12, 3)
    for clip, way, place in zip(found, torch.arange(count) % 4, torch.randint(12, (count, 2)).tolist(), strict=True):
        block = torch.zeros(12, 12, 3)
        block[:4, :4] = torch.empty(3).uniform_(0.7, 2.6)
        down, right = ((0, -1), (0, 1), (-1, 0), (1, 0))[int(way)]
        for time, frame in enumerate(clip):
            frame += block.roll((place[0] + down * time, place[1] + right * time), (0, 1))
    return found


@pytest.mark.parametrize("shared", [False, True])
def test_reshaped_clips_move_alike_and_are_of_no_common_video(shared: bool) -> None:
    torch.manual_seed(0)
    train, val = (clips(count).reshape(count, 3, 6, 12, 12) for count in (200, 40))
    val[:20] = train[:20] if shared else val[:20]
    loaders = [DataLoader(TensorDataset(x, torch.arange(len(x)) % 4), 32) for x in (train, val)]
    said = asked_in_script(WINDOWS_SHARED, nn.Sequential(nn.Flatten(), nn.Linear(2592, 4)), loaders[0], val=loaders[1])
    assert [one.code for one in said] == ["data.leak"] * shared


@pytest.mark.parametrize("period", [None, 24])
def test_windows_of_one_series_are_the_same_number_for_number(period: int | None) -> None:
    steps = torch.randn(1200, generator=torch.Generator().manual_seed(0)).cumsum(0)
    series = steps if period is None else torch.sin(torch.arange(1200) % period * (2 * torch.pi / period))
    windows = series.unfold(0, 60, 1)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(1))
    loaders = [DataLoader(TensorDataset(windows[rows][:, :48], windows[rows][:, 48:]), 32) for rows in
               (order[200:], order[:200])]  # fmt: skip
    found = said(WINDOWS_SHARED, nn.Linear(48, 12), loaders[0], val=loaders[1], loss=nn.MSELoss())
    assert ["identical values" in f.measured for f in found] == [True] * (period is None)


@pytest.mark.parametrize("copied", [True, False])
def test_whole_samples_in_both_parts_are_said_of_samples(copied: bool) -> None:
    windows = torch.randn(700, generator=torch.Generator().manual_seed(0)).unfold(0, 48, 1)
    train, val = (windows, windows[::4]) if copied else (windows[::2], windows[1::2])
    loaders = [DataLoader(TensorDataset(part, part.sum(1, keepdim=True)), 32) for part in (train, val)]
    found = said(WINDOWS_SHARED, nn.Linear(48, 1), loaders[0], val=loaders[1], loss=nn.MSELoss())
    assert len(found) == (not copied)
    assert [f.code for f in said(LEAK, nn.Linear(48, 1), *loaders[:1], val=loaders[1])] == ["data.leak"] * copied


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


def test_features_that_are_alike_are_no_windows() -> None:
    generator = torch.Generator().manual_seed(0)
    profile = torch.randn(64, generator=generator)
    rows = profile * (1 + 0.3 * torch.rand(600, 1, generator=generator)) + 0.02 * torch.randn(
        600, 64, generator=generator
    )
    data = [DataLoader(TensorDataset(part, part[:, 0]), 32) for part in (rows[:500], rows[500:])]
    assert said(WINDOWS_SHARED, nn.Linear(64, 1), data[0], val=data[1], loss=nn.MSELoss(), task="regress") == []


def test_feature_maps_with_the_same_background_are_no_windows() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1))
    with torch.no_grad():
        rows = body(digits(most=1700).dataset.tensors[0]).relu().flatten(1)
    rows = (rows - rows.mean(0)) / (rows.std(0) + 1e-3)
    data = [DataLoader(TensorDataset(part, part[:, 0]), 64) for part in (rows[:1300], rows[1300:])]
    assert said(WINDOWS_SHARED, nn.Linear(512, 1), data[0], val=data[1], loss=nn.MSELoss(), task="regress") == []


@pytest.mark.parametrize("by_position", [True, False])
def test_one_channel_may_be_relative_to_the_end_of_its_window(by_position: bool) -> None:
    """As prices less the last one: beside it the volumes are the same in both windows."""
    series = torch.randn(900, 2, generator=torch.Generator().manual_seed(0)).cumsum(0)
    cut = series.unfold(0, 30, 1)
    cut = torch.stack([cut[:, 0] - cut[:, 0, -1:], cut[:, 1]], 1)
    order = (
        torch.arange(len(cut)) if by_position else torch.randperm(len(cut), generator=torch.Generator().manual_seed(1))
    )
    first, last = cut[order[:650]], cut[order[700:]]
    data = [DataLoader(TensorDataset(part, (part[:, 1, 0] > 0).float()), 32) for part in (first, last)]
    found: list[Any] = []
    with suppress(NoEvidence):
        network = nn.Sequential(nn.Flatten(), nn.Linear(60, 1), nn.Flatten(0))
        found = asked(WINDOWS_SHARED, network, data[0], val=data[1], loss=nn.BCEWithLogitsLoss())
    assert [one.code for one in found] == ["data.leak"] * (not by_position)
