"""Sounds: what files say, what is refused, how long and fast inputs are, windows of long recordings."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

import striate
from striate.api.predicting import predict_files
from striate.data.audit.check import check_evidence
from striate.data.audit.evidence import gather_evidence
from striate.data.augment import sound
from striate.data.augment.augment import augment_batch
from striate.data.config import AugmentConfig, DataConfig
from striate.data.media.audio import sound_files
from striate.data.media.audio.sound_files import read_header, read_waveform, read_windows
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Unreadable
from striate.data.read import load_dataset
from striate.data.sources.list_source import list_source
from striate.errors import ConfigError, DataError


def tone(seconds: float, rate: int = 8000, hertz: float = 440.0, channels: int = 1) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, 1).astype(np.float32)


def encoded(values: np.ndarray, rate: int = 8000, form: str = "WAV", **how: Any) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, values, rate, format=form, **how)
    return buffer.getvalue()


def write_classes(root: Path, **lengths: float) -> Path:
    for name, seconds in lengths.items():
        (root / name).mkdir(parents=True)
        for k in range(12):
            (root / name / f"{k}.wav").write_bytes(encoded(tone(seconds, hertz=300 + 40 * k + 700 * (name == "b"))))
    return root


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_every_format_is_read_at_another_rate_in_one_channel(form: str) -> None:
    data = encoded(tone(1.0, 16000, channels=2), 16000, form)
    header = read_header(data, "one")
    assert (header.rate, header.channels) == (16000, 2)
    assert header.seconds == pytest.approx(1.0, abs=0.1)
    heard = read_waveform(data, "one", 8000, 4000)
    assert heard.shape == (4000,)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(4000)))
    assert spectrum.argmax() * 2 == pytest.approx(440, abs=4)


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 22050, 44100])
def test_an_mp3_of_any_version_of_mpeg_is_read_without_a_tag(rate: int) -> None:
    data = encoded(tone(1.0, rate), rate, "MP3")
    assert data[0] == 0xFF, "begins with a frame"
    assert read_header(data, "one").rate == rate


@pytest.mark.parametrize("form", ["FLAC", "OGG"])
def test_what_was_cut_off_is_refused(form: str) -> None:
    data = encoded(tone(1.0) + np.random.default_rng(0).normal(scale=0.1, size=(8000, 1)), form=form)
    with pytest.raises(Unreadable, match=r"cut off|damaged"):
        read_waveform(data[:-200], "one", 8000, 8000)


def test_hostile_files_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    good = encoded(tone(0.5))
    lying = good[:40] + (2**31).to_bytes(4, "little") + good[44:]  # 2 GiB of samples in a small file
    assert len(read_waveform(lying, "one", 8000, 4000)) == 4000
    monkeypatch.setattr(sound_files, "MOST_SECONDS", 0.4)
    with pytest.raises(Unreadable, match=r"more than the 0\.4 seconds allowed"):
        read_header(good, "one")
    monkeypatch.undo()
    fast = good[:24] + (2**31 - 1).to_bytes(4, "little") + good[28:]
    for hostile, why in (
        (fast, "samples a second"),
        (b"MThd" + good[4:], "not a sound"),
        (b"\xff\xf1" + good, "not a sound"),
        (good[:44], "cut off"),
    ):
        with pytest.raises(Unreadable, match=why):
            read_header(hostile, "one")
    infinite = tone(0.5)
    infinite[3] = np.inf
    with pytest.raises(Unreadable, match="NaN or Inf"):
        read_waveform(encoded(infinite, subtype="FLOAT"), "one", 8000, 4000)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(DataError, match=r"striate\[audio\]"):
        read_header(encoded(tone(0.5)), "one")


def test_rate_length_and_view_are_decided_from_the_files_and_kept(tmp_path: Path) -> None:
    source = write_classes(tmp_path / "data", a=0.5, b=0.25)
    data = load_dataset(DataConfig(source=str(source)))
    said = " ".join(data.notes)
    assert "Rate: 8,000 Hz, that of the files (data.rate)." in said
    assert "Length: 0.5 s" in said
    assert "12 shorter sounds padded with silence." in data.notes
    assert "64 mel bands" in said
    assert data.input_shape == (1, 64, 44)
    config = data.medium.decided(DataConfig(source=str(source)), data.preparation)
    assert (config.rate, config.seconds, config.view, config.fit) == (8000, 0.5, "log-mel", None)
    assert load_dataset(config).fingerprint == data.fingerprint
    (source / "a" / "fast.wav").write_bytes(encoded(tone(0.5, 16_000), 16_000))
    assert (
        "Rate: 8,000 Hz, the most common of 2 rates (data.rate)." in load_dataset(DataConfig(source=str(source))).notes
    )
    with pytest.raises(ConfigError, match="memory: waveforms cannot be packed or streamed"):
        load_dataset(DataConfig(source=str(source), view="waveform", store="pack"))
    waves = load_dataset(DataConfig(source=str(source), view="waveform", rate=4000, seconds=0.4))
    assert waves.input_shape == (1, 1600)
    assert waves.splits["train"].inputs.dtype == torch.float32
    for wrong in ({"seconds": 0.01}, {"fit": "pad"}, {"channels": 1}):
        with pytest.raises(ConfigError, match=f"data.{next(iter(wrong))}"):
            load_dataset(DataConfig(source=str(source), **wrong))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="nothing, since digits holds images"):
        medium_of("image").refuse_settings("digits", DataConfig(rate=8000))


def test_windows_of_a_long_recording_are_those_of_its_pieces(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = rng.uniform(-0.5, 0.5, 40_000).astype(np.float32)
    file = tmp_path / "long.wav"
    file.write_bytes(encoded(whole, subtype="FLOAT"))
    for every in (0.25, 1.0, 2.0):
        found = list(read_windows(file, "long", 8000, 8000, every))
        step = round(every * 8000)
        assert [start for (start, _), _ in found] == [k * every for k in range(len(found))]
        assert [end for (_, end), _ in found] == [min(k * every + 1, 5) for k in range(len(found))]
        for k, (_, window) in enumerate(found):
            piece = whole[k * step : k * step + 8000]
            assert np.array_equal(window, np.pad(piece, (0, 8000 - len(piece))))
        assert (len(found) - 1) * step + 8000 >= len(whole) - max(0, step - 8000)  # nothing at the end is left out
        assert (len(found) - 2) * step + 8000 < len(whole)  # and nothing is said twice
    short = tmp_path / "short.wav"
    short.write_bytes(encoded(whole[:100], subtype="FLOAT"))
    ((span, window),) = read_windows(short, "short", 8000, 8000, 0.5)
    assert span == (0, 100 / 8000)
    assert np.array_equal(window[:100], whole[:100])


@pytest.fixture(scope="module")
def batches() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    return {
        "spectrogram": torch.from_numpy(rng.integers(0, 200, (6, 1, 16, 40), dtype=np.uint8)),
        "waveform": torch.from_numpy(rng.normal(size=(6, 1, 400)).astype(np.float32)),
    }


@pytest.mark.parametrize("kind", ["spectrogram", "waveform"])
def test_augmentation_is_a_function_of_seed_epoch_and_sample(kind: str, batches: dict[str, torch.Tensor]) -> None:
    x, ids = batches[kind], torch.tensor([4, 9, 2, 7, 1, 3])
    for name in sorted(medium_of(kind).augmentations - {"noise", "mixup"}):
        config = AugmentConfig(**{name: 0.4 if name != "gain" else 6})
        out, warp = augment_batch(x, config, 1, 2, ids)
        assert warp is None
        assert (out.shape, out.dtype) == (x.shape, x.dtype)
        assert not torch.equal(out, x)
        order = torch.tensor([5, 0, 3])
        assert torch.equal(augment_batch(x[order], config, 1, 2, ids[order])[0], out[order])
        assert not torch.equal(augment_batch(x, config, 1, 3, ids)[0], out)


def test_augmentations_do_what_they_say(batches: dict[str, torch.Tensor]) -> None:
    x, wave = batches["spectrogram"], batches["waveform"]
    shares = torch.linspace(-1, 1, 6)
    assert torch.equal(sound.shift_time(sound.shift_time(x, shares / 2), -shares / 2), x)
    louder = sound.amplify(x, torch.full((6,), 3.0))
    assert torch.equal(louder[x > 0].int(), x[x > 0].int() + 6)
    assert (louder[x == 0] == 0).all()
    assert torch.allclose(sound.amplify(wave, torch.full((6,), 20.0)), 10 * wave)
    assert torch.equal(sound.change_speed(wave, torch.ones(6).double()), wave)
    twice = sound.change_speed(wave, torch.full((6,), 2.0).double())
    assert torch.equal(twice[..., :200], wave[..., ::2])
    assert (twice[..., 200:] == 0).all()
    blanked = sound.blank(x, 3, torch.full((6,), 0.5), torch.zeros(6))
    assert (blanked[..., :20].flatten(1).amin(1) == blanked[..., :20].flatten(1).amax(1)).all()
    assert torch.equal(blanked[..., 20:], x[..., 20:])
    assert (sound.blank(wave, 2, torch.full((6,), 0.5), torch.full((6,), 0.999))[..., 200:] == 0).all()


def test_a_check_hears_silence_clipping_and_the_same_recording_at_another_gain_and_offset(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = tmp_path / "data"
    for name in ("a", "b"):
        (source / name).mkdir(parents=True)
    for name in ("a", "b"):
        for k in range(12):
            steps = np.repeat(rng.uniform(0.05, 0.3, 20), 400)
            noise = np.cumsum(rng.normal(size=8000)) if name == "a" else rng.normal(size=8000)
            wave = noise / np.abs(noise).max() * steps
            (source / name / f"{k:02}.wav").write_bytes(encoded(wave))
            if (name, k) == ("a", 3):
                (source / "a" / "quieter.flac").write_bytes(encoded(0.2 * wave, form="FLAC"))
                (source / "b" / "louder.ogg").write_bytes(encoded(2 * wave, form="OGG"))
                (source / "a" / "offset.wav").write_bytes(encoded(wave + 0.4))
                (source / "a" / "clipped.wav").write_bytes(encoded(np.clip(8 * np.roll(wave, 3000), -1, 1)))
    (source / "a" / "silent.wav").write_bytes(encoded(np.zeros(8000)))
    good = encoded(rng.normal(scale=0.1, size=8000), form="FLAC")
    (source / "b" / "torn.flac").write_bytes(good[:-400])
    check = check_evidence(gather_evidence(list_source(DataConfig(source=str(source))), DataConfig(source=str(source))))
    told = {mark.finding.code: mark for mark in check.sample_findings}
    named = {
        code: {check.evidence.named(number) for group in mark.groups for number in group} for code, mark in told.items()
    }
    assert named["data.silence"] == {"a/silent.wav"}
    assert named["data.clipping"] == {"a/clipped.wav"}
    assert named["data.unreadable"] == {"b/torn.flac"}
    assert named["data.label-noise"] == {"a/03.wav", "a/quieter.flac", "b/louder.ogg", "a/offset.wav"}
    assert check.inputs == "sounds of 1 s at 8,000 Hz"


def test_a_check_hears_the_same_recording_at_other_rates(tmp_path: Path) -> None:
    rng, source = np.random.default_rng(0), tmp_path / "data"
    for name in ("a", "b"):
        (source / name).mkdir(parents=True)
        for k in range(4):
            wave = rng.normal(size=44_100) * np.repeat(rng.uniform(0.02, 0.2, 21), 2100)
            (source / name / f"{k}.wav").write_bytes(encoded(wave, 44_100))
            if k < 3:
                rate = (32_000, 22_050, 8_000)[k]
                copy = soxr.resample(wave, 44_100, rate)
                (source / name / f"{k} at {rate}.wav").write_bytes(encoded(copy, rate))
    check = check_evidence(gather_evidence(list_source(DataConfig(source=str(source))), DataConfig(source=str(source))))
    found = {check.evidence.named(group[0]): len(group) for group in check.evidence.alike}
    assert found == {f"{name}/{k} at {rate}.wav": 2 for name in "ab" for k, rate in enumerate((32_000, 22_050, 8_000))}


def test_predictions_for_windows_are_those_of_the_pieces(tmp_path: Path) -> None:
    source = write_classes(tmp_path / "data", a=0.4, b=0.4)
    fields = {"execution.plan": "plain", "execution.threads": 1}
    striate.train(source, "conv(4,3) relu gap fc(2)", epochs=1, batch=8, out=tmp_path / "run", set=fields)
    whole = np.concatenate([tone(0.4, hertz=h) for h in (300, 1500, 800)])
    for k in range(3):
        (tmp_path / f"piece{k}.wav").write_bytes(encoded(whole[3200 * k : 3200 * (k + 1)]))
    (tmp_path / "long.wav").write_bytes(encoded(whole))
    found = list(predict_files(tmp_path / "run", [tmp_path / "long.wav"], every=0.4))
    assert [one.span for one in found] == [pytest.approx((0.4 * k, 0.4 * k + 0.4)) for k in range(3)]
    pieces = list(predict_files(tmp_path / "run", [tmp_path / f"piece{k}.wav" for k in range(3)]))
    for one, piece in zip(found, pieces, strict=True):
        assert one.prediction is not None
        assert piece.prediction is not None
        assert one.prediction.fields["label"] == piece.prediction.fields["label"]
        assert one.prediction.fields["probability"] == pytest.approx(piece.prediction.fields["probability"], abs=1e-5)
    (tmp_path / "not.wav").write_bytes(b"nothing that is a sound")
    (error,) = predict_files(tmp_path / "run", [tmp_path / "not.wav"], every=0.4)
    assert "not a sound file" in str(error.error)


@pytest.mark.slow
def test_the_smallest_change_of_a_spectrogram_is_given_in_decibels(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "sounds", a=0.4, b=0.4)
    fields = {"execution.plan": "plain"}
    run = striate.train(root, "conv(4,3) relu gap fc(2)", epochs=8, lr=0.05, out=tmp_path / "run", set=fields)
    explained = striate.explain(run.path, next(root.glob("a/*")), "saliency")
    assert explained.nudge is not None
    levels = np.abs(explained.nudge.changed.astype(float) - explained.input).max()
    assert explained.nudge.unit == "decibels"
    assert explained.nudge.largest == pytest.approx(levels / 2, abs=0.3)
