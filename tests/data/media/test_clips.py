"""Clips: what films say, which frames are taken, what is refused, how motion is kept and mirrored."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate.data.audit.clip_statistics import measure_clips
from striate.data.audit.evidence import gather_evidence
from striate.data.augment.augment import augment_batch
from striate.data.augment.clip import mirror_motion, shift_frames
from striate.data.config import AugmentConfig, DataConfig
from striate.data.media.clip import clip_files
from striate.data.media.clip.clip_files import ClipHeader, read_clip_header, read_frames
from striate.data.media.clip.clip_medium import even_places, flow_candidates
from striate.data.media.clip.flow import STILL, flow_bytes, flow_pixels, optical_flow
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Preparation, Unreadable
from striate.data.predict_inputs import list_inputs
from striate.data.sources.list_source import list_source
from striate.errors import ConfigError, DataError
from striate.models.build import build_model
from striate.models.zoo.clips import TemporalShift

LIMIT = 64_000_000
FORMATS = {
    ".mp4": ("mp4", "mpeg4"),
    ".mov": ("mov", "mpeg4"),
    ".avi": ("avi", "mpeg4"),
    ".mkv": ("matroska", "mpeg4"),
    ".webm": ("webm", "libvpx"),
}


def film(frames: np.ndarray, suffix: str = ".mp4", rate: int = 10, **options: str) -> bytes:
    """(T, H, W, 3) as a file; a GIF by Pillow, without loss for few colors."""
    buffer = io.BytesIO()
    if suffix == ".gif":
        first, *rest = map(Image.fromarray, frames)
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=1000 // rate)
        return buffer.getvalue()
    form, codec = FORMATS[suffix]
    with av.open(buffer, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    return buffer.getvalue()


def brightening(count: int = 12, side: int = 16) -> np.ndarray:
    """Frame k is of gray 20 · k."""
    levels = 20 * np.arange(count, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, side, side, 3)).copy()


def drifting(right: int, down: int, count: int = 6, side: int = 32) -> np.ndarray:
    """A smooth pattern that moves by so many pixels a frame."""
    y, x = np.mgrid[:side, :side]
    frames = [
        127 + 60 * np.sin((x - k * right) * 2 * np.pi / side) + 60 * np.sin((y - k * down) * 2 * np.pi / side)
        for k in range(count)
    ]
    return np.repeat(np.stack(frames)[..., None], 3, -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [*FORMATS, ".gif"])
def test_every_format_gives_the_frames_that_are_asked_for(suffix: str) -> None:
    data = film(brightening(), suffix)
    header = read_clip_header(data, "one", LIMIT)
    assert (header.width, header.height, header.frames) == (16, 16, 12)
    assert header.rate == pytest.approx(10, abs=0.1)
    _, found = read_frames(data, "one", lambda header: [9, 2, 2, header.frames - 1], LIMIT)
    assert {number: int(frame.mean() / 20 + 0.5) for number, frame in found.items()} == {2: 2, 9: 9, 11: 11}


def test_far_frames_are_sought_and_are_the_same() -> None:
    data = film(brightening(12), g="3", bf="0")
    for number in range(12):
        _, found = read_frames(data, "one", lambda _, n=number: [n], LIMIT)
        assert int(found[number].mean() / 20 + 0.5) == number


def test_a_film_that_lies_on_its_side_is_turned() -> None:
    frames, buffer = np.zeros((3, 16, 32, 3), np.uint8), io.BytesIO()
    frames[:, :8, 16:] = 255  # above to the right: to the left once it is turned counterclockwise
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 16, 32, "yuv420p"
        stream.set_display_rotation(90)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    header, found = read_frames(buffer.getvalue(), "one", lambda _: [1], LIMIT)
    assert (header.width, header.height) == (16, 32)
    assert found[1][:16, :8].mean() > 200 > 50 > found[1][16:, 8:].mean()


def test_frames_are_the_middles_of_even_parts() -> None:
    assert even_places(12, 4) == [1, 4, 7, 10]
    assert even_places(3, 4) == [0, 1, 1, 2]
    header = ClipHeader(8, 8, 60, 30.0)
    assert flow_candidates([0, 59], header) == [(0, 2, 4, 6), (57, 59)]
    assert flow_candidates([0], ClipHeader(8, 8, 1, 30.0)) == [(0, 0)]


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm", ".gif"])
def test_what_was_cut_off_is_refused(suffix: str) -> None:
    data = film(drifting(1, 1), suffix)
    for cut in (data[:-30], data[: len(data) // 2], data[:20]):
        with pytest.raises(Unreadable):
            read_frames(cut, "one", lambda header: range(header.frames), LIMIT)


def test_hostile_films_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = film(brightening())
    playlist = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
    ftyp = (16).to_bytes(4, "big") + b"ftypisom\0\0\0\0"
    huge = ftyp + (0xFFFFFFF0).to_bytes(4, "big") + b"moov"
    for hostile, why in ((playlist, "not a video"), (huge, "cut off"), (ftyp, "no index"), (b"", "empty")):
        with pytest.raises(Unreadable, match=why):
            read_clip_header(hostile, "one", LIMIT)
    with pytest.raises(Unreadable, match="more than 100"):
        read_clip_header(data, "one", 100)
    monkeypatch.setattr(clip_files, "MOST_SECONDS", 1)
    with pytest.raises(Unreadable, match=r"1\.?2? seconds long|1 seconds long"):
        read_clip_header(data, "one", LIMIT)
    monkeypatch.setattr(clip_files, "MOST_SECONDS", 600)
    monkeypatch.setattr(clip_files, "MOST_FRAMES", 11)
    for suffix in (".mp4", ".gif"):
        with pytest.raises(Unreadable, match="frames"):
            read_clip_header(film(brightening(), suffix), "one", LIMIT)


def test_flow_is_how_far_pixels_move_in_eighths() -> None:
    frames = drifting(2, -1)
    moved = optical_flow(frames[0], frames[1])[:, 8:-8, 8:-8]
    assert np.median(moved[0]) == pytest.approx(2, abs=0.3)
    assert np.median(moved[1]) == pytest.approx(-1, abs=0.3)
    levels = flow_bytes(np.array([[0.0, 2.0, -1.0, 99.0, -99.0, np.nan]], np.float32))
    assert levels.tolist() == [[128, 144, 120, 255, 1, 128]]
    assert flow_pixels(levels)[0, :3].tolist() == [0, 2, -1]


def test_a_repeated_frame_hides_no_motion() -> None:
    frames = drifting(2, 0, 8).repeat(2, 0)
    made = Preparation("flow-clip", (2, 4, 32, 32))
    seen = medium_of("flow-clip").decode(film(frames, ".gif", 15), "one", made)
    assert (np.median(seen[0, :, 8:-8, 8:-8], (1, 2)) > STILL + 8).all()


def test_mirrored_motion_is_turned_around_and_twice_is_the_identity() -> None:
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 4, 8, 8).expand(2, 5, 4, 8, 8).contiguous()
    ids = torch.arange(2)
    chosen = torch.tensor([True, False])
    once = mirror_motion(x, chosen)
    assert torch.equal(once[1], x[1])
    assert torch.equal(once[0, -2], (-x[0, -2].int()).remainder(256).to(torch.uint8))
    assert torch.equal(once[0, [0, 1, 2, 4]], x[0, [0, 1, 2, 4]])
    assert torch.equal(mirror_motion(once, chosen), x)
    flips = AugmentConfig(flip="alternate")
    each = [augment_batch(x, flips, 0, epoch, ids, motion=True)[0] for epoch in (0, 1)]
    mirrored = torch.stack([x.flip(-1)[k] for k in range(2)])
    mirrored[:, -2] = (-mirrored[:, -2].int()).remainder(256).to(torch.uint8)
    for k in range(2):
        assert {tuple(one[k].flatten().tolist()) for one in each} == {
            tuple(x[k].flatten().tolist()),
            tuple(mirrored[k].flatten().tolist()),
        }


def test_all_frames_of_a_clip_change_alike() -> None:
    still = torch.randint(0, 256, (6, 3, 1, 20, 24), dtype=torch.uint8).expand(-1, -1, 5, -1, -1).contiguous()
    fields: dict[str, Any] = {"flip": True, "shift": 3, "crop": 0.5, "cutout": 0.3, "color": 0.4, "time_shift": 0.5}
    seen, _ = augment_batch(still, AugmentConfig(**fields), 1, 2, torch.arange(6))
    assert seen.shape == still.shape
    assert not torch.equal(seen, still)
    assert torch.equal(seen, seen[:, :, :1].expand_as(seen))


def test_a_clip_that_begins_elsewhere_stands_still_at_its_end() -> None:
    x = torch.arange(4, dtype=torch.uint8).view(1, 1, 4, 1, 1).expand(3, 2, 4, 1, 1)
    begun = shift_frames(x, torch.tensor([0.5, -0.25, 0.0]))
    assert begun[:, 0, :, 0, 0].tolist() == [[2, 3, 3, 3], [0, 0, 1, 2], [0, 1, 2, 3]]


def test_temporal_shift_is_what_the_paper_says() -> None:
    x = torch.randn(2, 8, 3, 2, 2)
    expected = x.clone()
    expected[:, :2] = torch.cat([x[:, :2, 1:], torch.zeros(2, 2, 1, 2, 2)], 2)
    expected[:, 2:4] = torch.cat([torch.zeros(2, 2, 1, 2, 2), x[:, 2:4, :-1]], 2)
    assert torch.equal(TemporalShift(4)(x), expected)


def test_streams_learn_apart_and_are_averaged() -> None:
    network = build_model("two-stream(width=4)", (5, 4, 16, 16), 3)
    x = torch.randn(2, 5, 4, 16, 16)
    fused, rgb, flow = network.train()(x)
    assert torch.equal(fused, (rgb + flow) / 2)
    assert not fused.requires_grad
    rgb.sum().backward()
    assert all(p.grad is None for p in network.flow.parameters())
    network.eval()
    with torch.no_grad():
        alone = network.alone(x)
        assert torch.equal(network(x), (alone["rgb"] + alone["flow"]) / 2)
        again = network.rgb(x[:, :3, [2, 0, 3, 1]])
    assert torch.allclose(again, alone["rgb"], atol=1e-5), "frames alone have no order"


def write_frames(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"f{number}.png")


def test_folders_of_frames_are_clips_where_that_is_asked_for(tmp_path: Path) -> None:
    for number in range(4):
        write_frames(tmp_path / "set" / "ab"[number % 2] / f"clip{number}", brightening(11))
    source = str(tmp_path / "set")
    assert len(list_source(DataConfig(source=source))) == 44
    listing = list_source(DataConfig(source=source, frames=4))
    assert (listing.kind, listing.paths, listing.labels) == (
        "rgb-clip",
        ("a/clip0", "a/clip2", "b/clip1", "b/clip3"),
        ("a", "a", "b", "b"),
    )
    medium, made = medium_of("rgb-clip"), Preparation("rgb-clip", (3, 11, 16, 16))
    assert listing.read is not None
    seen = medium.decode(listing.read(0), "one", made)
    assert seen[0, :, 0, 0].tolist() == brightening(11)[:, 0, 0, 0].tolist()  # f10 after f9
    assert np.array_equal(medium.decode(tmp_path / "set/a/clip0", "one", made), seen)
    assert "Clips: 4 folders with 44 frames in all." in listing.notes
    (tmp_path / "set" / "films").mkdir()
    for name in ("one.gif", "poster.png"):
        (tmp_path / "set" / "films" / name).touch()
    listed = list_inputs([source], medium)
    assert listed == (tuple(f"{source}/{name}" for name in (*listing.paths, "films/one.gif")), 1)
    shutil.rmtree(tmp_path / "set" / "films")
    (tmp_path / "set" / "table.csv").write_text("path,label,group\na/clip0,x,1\nb/clip1,y,2\n")
    table = list_source(DataConfig(source=str(tmp_path / "set" / "table.csv")))
    assert (table.kind, table.groups) == ("rgb-clip", ("1", "2"))
    assert table.read is not None
    assert np.array_equal(medium.decode(table.read(0), "one", made), seen)
    Image.fromarray(brightening()[0]).save(tmp_path / "set" / "a" / "loose.png")
    with pytest.raises(DataError, match="directly in a/"):
        list_source(DataConfig(source=source, view="flow"))


def test_the_same_clip_and_another_of_its_scene_are_told_apart(tmp_path: Path) -> None:
    y, x = np.mgrid[:48, :48]
    scenes = [
        np.repeat((120 + 60 * np.sin(x * a / 7) * np.cos(y * b / 9))[..., None], 3, -1) for a, b in ((1, 2), (2, 1))
    ]

    def walker(scene: np.ndarray, down: int, step: int) -> np.ndarray:
        frames = np.repeat(scene[None], 16, 0)
        for k, frame in enumerate(frames):
            frame[down : down + 12, (step * k) % 40 : (step * k) % 40 + 10] = 255
        return frames.astype(np.uint8)

    folder = tmp_path / "set" / "a"
    folder.mkdir(parents=True)
    one = walker(scenes[0], 4, 2)
    films = {"1.mp4": one, "2.avi": one, "3.mp4": walker(scenes[0], 30, 2), "4.mp4": walker(scenes[1], 4, 2)}
    for name, frames in films.items():
        (folder / name).write_bytes(film(frames, Path(name).suffix))
    listing = list_source(DataConfig(source=str(tmp_path / "set")))
    seen = measure_clips(listing, range(4), LIMIT, lambda _: None)
    assert seen.alike() == [(0, 1)]
    assert seen.same_scene() == [(0, 1), (0, 2), (1, 2)]
    evidence = gather_evidence(listing, DataConfig(source=str(tmp_path / "set")))
    assert evidence.alike == ((0, 1),)
    assert evidence.related == ((0, 1, 2),)


def test_animated_pictures_are_clips_and_others_are_not(tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / "set" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.gif").write_bytes(film(brightening(3 + number), ".gif"))
    listing = list_source(DataConfig(source=str(tmp_path / "set")))
    assert listing.kind == "rgb-clip"
    assert any("animated" in note for note in listing.notes)
    for file in (tmp_path / "set").rglob("*.gif"):
        Image.new("L", (4, 4)).save(file)
    assert list_source(DataConfig(source=str(tmp_path / "set"))).kind == "image"
    with pytest.raises(ConfigError, match=r"data\.view"):
        list_source(DataConfig(source=str(tmp_path / "set"), view="waveform", frames=4))


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(DataError, match=r"striate\[clips\]"):
        read_clip_header(film(brightening()), "one", LIMIT)


@pytest.mark.slow
def test_both_streams_are_told_apart_and_predict_takes_films_and_folders(tmp_path: Path) -> None:
    for name, right in (("left", -2), ("right", 2)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(20):
            frames = np.roll(drifting(right, 0), (number, 3 * number), (2, 1))
            (tmp_path / "set" / name / f"{number}.gif").write_bytes(film(frames, ".gif"))
    fields = {"data.view": "both", "data.frames": 4, "execution.plan": "plain", "augment.crop": 1.0}
    run = striate.train(
        tmp_path / "set", "two-stream(width=8, fusion=svm)", epochs=12, batch=8, out=tmp_path / "run", set=fields
    )
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert kept["streams"].keys() == {"rgb", "flow"}
    assert kept["streams"]["flow"]["accuracy"] == 1
    assert kept["fusion"]["better_stream"] == "flow"
    assert kept["fusion"]["by"].startswith("Fusion: a support vector machine (C = ")
    assert striate.load(run.path).module.fusion.weight.abs().sum() > 0
    assert kept["fusion"]["sentence"] in (tmp_path / "run" / "report.html").read_text(encoding="utf-8").replace(
        "&#39;", "'"
    )
    write_frames(tmp_path / "new", drifting(2, 0))
    trained = striate.load(run.path)
    answers = trained.predict([tmp_path / "new", tmp_path / "set" / "left" / "3.gif"])
    assert [answer.label for answer in answers][1] == "left"
