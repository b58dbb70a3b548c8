"""What a file makes of frames, waveforms and voxels is what the program makes of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import striate
from striate.api import predict_files
from striate.data.dataset import Preparation
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Unreadable
from striate.data.normalize import Normalization
from striate.exporting.exported_file import ExportedFile, _File
from striate.exporting.exported_network import ExportedNetwork
from striate.exporting.input_forms import Samples, input_form_of, middle
from striate.inference.windows import InWindows
from striate.tasks.classify.task import Classify
from striate.tasks.segment.task import Segment
from striate.training.trained import Trained

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "media"))
from test_every_medium import COUNT, MAKERS

RNG = np.random.default_rng(0)


def _both(preparation: Preparation, samples: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """For each size the inputs of the file, and those of the program."""
    form, medium = input_form_of(preparation, whole=False), medium_of(preparation.kind)
    assert form is not None
    return [
        (
            form.prepared(torch.from_numpy(batch))[0].numpy(),
            np.stack([medium.from_given(one, preparation) for one in batch]),
        )
        for _, batch in form.cases(list(samples))
    ]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_frames_are_chosen_and_resized_to_the_same_bytes(fit: Any) -> None:
    preparation = Preparation("rgb-clip", (3, 4, 12, 16), fit)
    for found, right in _both(preparation, RNG.integers(0, 256, (2, 4, 12, 16, 3), np.uint8)):
        assert np.array_equal(found, right)


def test_of_a_waveform_of_any_length_the_middle_is_taken() -> None:
    preparation = Preparation("waveform", (1, 401), rate=8000, samples=401, window=256, hop=80)
    for found, right in _both(preparation, RNG.normal(0, 0.1, (2, 401)).astype(np.float32)):
        assert np.array_equal(found, right)


def test_levels_of_spectrograms_differ_by_rounding_alone() -> None:
    preparation = Preparation("spectrogram", (1, 32, 94), rate=8000, samples=8000, window=512, hop=80)
    time = np.arange(8000) / 8000
    sweep = 0.3 * np.sin(2 * np.pi * (200 + 1500 * time) * time)
    for found, right in _both(preparation, np.stack([sweep, RNG.normal(0, 0.01, 8000)]).astype(np.float32)):
        assert abs(found - right).max() <= 1
        assert (found != right).mean() < 0.002


@pytest.mark.parametrize(
    "how",
    [{"intensity": "as-is"}, {"intensity": "z-score"}, {"intensity": "percentile"}, {"limits": (-0.5, 1.5)}],
    ids=str,
)
def test_volumes_of_any_size_are_scaled_and_laid_into_the_grid(how: Any) -> None:
    preparation = Preparation("volume", (2, 8, 16, 8), **{"intensity": "window", **how})
    volumes = RNG.normal(1, 3, (2, 2, 8, 16, 8)).astype(np.float32) * (RNG.random((2, 2, 8, 16, 8)) < 0.7)
    for found, right in _both(preparation, volumes.astype(np.float32)):
        assert found == pytest.approx(right, abs=2e-6)


def test_a_volume_of_one_value_has_no_spread_to_divide_by() -> None:
    preparation = Preparation("volume", (1, 8, 8, 8), intensity="z-score")
    for value in (0.0, 5.0):
        ((found, right), *_) = _both(preparation, np.full((1, 1, 8, 8, 8), value, np.float32))
        assert np.array_equal(found, right)


@pytest.mark.parametrize("have", [1, 4, 5, 6, 9])
def test_the_middle_of_an_axis_is_that_of_numpy(have: int) -> None:
    from striate.data.media.audio.sound_files import centered

    wave = np.arange(1, have + 1, dtype=np.float32)
    assert np.array_equal(middle(torch.from_numpy(wave)[None], 1, 5)[0].numpy(), centered(wave, 5))


def test_pictures_and_numbers_have_no_form_of_their_own() -> None:
    assert input_form_of(Preparation("image", (3, 8, 8)), whole=False) is None
    assert Samples.name == "waveform"


def _volumes(task: Any, network: torch.nn.Module, *, free: bool = True, **how: Any) -> tuple[Trained, ExportedFile]:
    """A network of volumes, and what stands for its exported file."""
    preparation = Preparation("volume", (1, 16, 16, 16), fit="pad", spacing=(2.0, 1.5, 1.0), **how)
    rest = task, preparation, Normalization((0.3,), (1.7,)), ("a", "b", "c"), torch.device("cpu")
    trained = Trained(network.eval(), *rest)
    made = ExportedNetwork(trained)
    run = _File(Path("net"), lambda batch: [part.numpy() for part in made(torch.from_numpy(batch))], free=free)
    return trained, ExportedFile(run, *rest)


def _write(path: Path, shape: tuple[int, ...], spacing: tuple[float, ...] = (1.0, 1.5, 2.0)) -> Path:
    values = RNG.normal(40, 30, shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*spacing, 1.0])), path)
    return path


def test_masks_of_volumes_of_any_size_are_those_of_the_run(tmp_path: Path) -> None:
    network = InWindows(torch.nn.Conv3d(1, 3, 3, padding=1))
    trained, file = _volumes(Segment(("a", "b", "c")), network, intensity="z-score")
    for shape in ((10, 14, 12), (5, 33, 16)):
        path = _write(tmp_path / f"{shape[0]}.nii", shape)
        one, right = file.predict(path), trained.predict(path)
        assert one.decoded.shape == shape[::-1]
        assert torch.equal(one.decoded, right.decoded)
    with pytest.raises(Unreadable, match="97×4×4 voxels: this exported file takes at most 96 voxels a side"):
        file.predict(_write(tmp_path / "long.nii", (4, 4, 97)))
    with pytest.raises(Unreadable, match="the predicted mask would not have the spacing of this file"):
        _volumes(Segment(("a", "b", "c")), network, intensity="as-is")[1].predict(
            _write(tmp_path / "fine.nii", (20, 28, 24), (0.5, 0.75, 1.0))
        )
    fixed = _volumes(Segment(("a", "b", "c")), network, free=False, intensity="z-score")[1]
    with pytest.raises(Unreadable, match="12×14×10 voxels: this exported file takes 16×16×16 voxels"):
        fixed.predict(tmp_path / "10.nii")


@pytest.mark.parametrize("how", [{"intensity": "as-is"}, {"intensity": "window", "limits": (-20.0, 60.0)}], ids=str)
def test_a_resampled_volume_is_predicted_as_by_the_run_or_refused(how: Any, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4096, 3))
    fine = _write(tmp_path / "fine.nii", (20, 28, 24), (0.5, 0.75, 1.0))
    trained, file = _volumes(Classify(("a", "b", "c")), network, **how)
    assert torch.allclose(file.predict(fine).decoded, trained.predict(fine).decoded, atol=1e-5)
    refuses = _volumes(Classify(("a", "b", "c")), network, intensity="z-score")[1]
    (answer,) = predict_files(refuses, [fine])
    assert "voxels of 1 × 0.75 × 0.5 mm: an exported file takes only 2 × 1.5 × 1 mm" in str(answer.error)


@pytest.mark.parametrize("name", ["spectrogram", "waveform", "rgb-clip", "volume"])
def test_files_are_given_to_an_exported_file_as_it_takes_them(name: str, tmp_path: Path) -> None:
    maker = MAKERS[name]
    source = maker.write(tmp_path / "data", maker.arrays(np.random.default_rng(0)), list(range(COUNT)))
    fixed = {"execution.plan": "plain", **{f"data.{key}": value for key, value in maker.fields.items()}}
    trained = striate.train(source, maker.model, epochs=1, out=tmp_path / "run", set=fixed).load()
    network = ExportedNetwork(trained)
    read = ExportedFile(
        _File(tmp_path, lambda batch: [part.numpy() for part in network(torch.from_numpy(batch))]),
        *(trained.task, trained.preparation, trained.normalization, trained.classes, trained.device, trained.views),
    )
    files = sorted(map(str, source.rglob(f"*{maker.suffix}")))[:4]
    for every in (None, 0.5) if medium_of(trained.preparation.kind).lasting else (None,):
        right = predict_files(trained, files, plan="plain", every=every)
        for one, other in zip(predict_files(read, files, every=every), right, strict=True):
            assert (one.path, one.span) == (other.path, other.span)
            assert torch.allclose(one.prediction.decoded, other.prediction.decoded, atol=5e-3)
