import shutil

import numpy as np
import pytest

from made_data import picture
from striate.data.config import DataConfig
from striate.data.dataset import Preparation
from striate.data.read import load_dataset, load_for_evaluation
from striate.errors import ConfigError, DataError


def folder(root, per_class=6, classes=("cat", "dog"), start=0):
    for k, name in enumerate(classes):
        for i in range(start, start + per_class):
            picture(root / name / f"{i}.png", 100 * k + i)
    return root


def evaluate(path, classes=("cat", "dog"), annotation="class", preparation=None, *, targets=None, seen=None, **fields):
    preparation = preparation or Preparation("image", (1, 4, 6))
    config = DataConfig(source=str(path), **fields)
    return load_for_evaluation(config, preparation, classes, annotation, targets=targets, seen=seen)


def test_everything_is_all_where_no_test_split_is_given(tmp_path):
    data = evaluate(folder(tmp_path, classes=("dog",)), preparation=Preparation("image", (3, 5, 7)))
    assert list(data.splits) == list(data.contents) == ["all"]
    assert data.splits["all"].inputs.shape == (6, 3, 5, 7)
    assert data.splits["all"].targets.tolist() == [1] * 6
    assert {row.split for row in data.rows} == {"all"}
    assert data.classes == ("cat", "dog")
    assert 'all samples, as the split "all", since the source gives no test split (6 samples)' in data.notes[0]


def test_the_given_test_split_is_taken_alone(tmp_path):
    folder(tmp_path / "train", 4)
    folder(tmp_path / "test", 2)
    data = evaluate(tmp_path, ("dog", "owl", "cat"))
    assert data.splits["test"].targets.tolist() == [2, 2, 0, 0]
    assert {row.path.split("/")[0] for row in data.rows} == {"test"}
    assert "the test split that the source gives (4 samples)" in data.notes[0]


def test_images_of_another_size_are_scaled_with_a_note(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 28, 30), np.uint8), y=[1, 0, 1])
    how = "Size: 3 of 3 images were scaled to 4×6 pixels, the size of the network's inputs (data.fit crop)"
    assert f"{how}: gray images of 28×30 pixels." in evaluate(tmp_path / "d.npz").notes
    files = folder(tmp_path / "files", 1)
    notes = evaluate(files, preparation=Preparation("image", (1, 5, 7))).notes
    assert any(note.startswith("Size: 2 of 2 images were scaled to 5×7 pixels") for note in notes)
    assert not any("Size" in note for note in evaluate(files).notes)


def test_classes_that_the_network_does_not_know(tmp_path):
    with pytest.raises(DataError, match="does not know: owl"):
        evaluate(folder(tmp_path, classes=("cat", "owl")))


def test_bare_numbers_are_positions_only_where_no_name_matches(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 4, 6), np.uint8), y=[1, 0, 1, 1])
    data = evaluate(tmp_path / "d.npz")
    assert data.splits["all"].targets.tolist() == [1, 0, 1, 1]
    assert [row.label for row in data.rows] == ["dog", "cat", "dog", "dog"]
    assert data.notes[-1] == "The labels are plain numbers, read as class indices: 0 is cat."
    assert evaluate(tmp_path / "d.npz", ("1", "0")).splits["all"].targets.tolist() == [0, 1, 0, 0]
    with pytest.raises(DataError, match="does not know: 0, 1"):
        evaluate(tmp_path / "d.npz", ("cat",))


def test_masks_keep_the_numbers_of_the_network(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 4, 6, 3), np.uint8), y=np.full((2, 4, 6), 7))
    preparation = Preparation("image", (3, 4, 6))
    data = evaluate(tmp_path / "d.npz", ("3", "7"), "mask", preparation)
    assert (data.splits["all"].targets == 1).all()
    with pytest.raises(DataError, match="does not know: 7"):
        evaluate(tmp_path / "d.npz", ("3", "5"), "mask", preparation)


def test_tables_and_numbers(tmp_path):
    data = evaluate("boston", (), "number", Preparation("table", (13,)))
    assert data.splits["all"].inputs.shape == (506, 13)
    assert data.splits["all"].targets.shape == (506, 1)
    with pytest.raises(DataError, match=r"table inputs of shape \(13,\)"):
        evaluate("boston", (), "number", Preparation("table", (12,)))
    with pytest.raises(DataError, match="image inputs"):
        evaluate(folder(tmp_path), preparation=Preparation("table", (13,)))


def test_the_number_of_targets_must_be_that_of_the_network(tmp_path):
    assert len(evaluate("boston", (), "number", Preparation("table", (13,)), targets=1).splits["all"]) == 506
    with pytest.raises(DataError, match=r"1 number for each sample: MEDV\n.*2, as many as"):
        evaluate("boston", (), "number", Preparation("table", (13,)), targets=2)
    assert len(evaluate(folder(tmp_path), targets=2).splits["all"]) == 12  # of classes there may be fewer


def test_arrays_are_read_in_the_layout_of_the_training(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (12, 3, 3, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(12) % 2)
    trained = load_dataset(DataConfig(source=str(tmp_path / "d.npz"), layout="NCHW"))
    assert trained.preparation.layout == "NCHW"
    data = evaluate(tmp_path / "d.npz", ("0", "1"), preparation=trained.preparation)
    assert (data.splits["all"].inputs.numpy() == x).all()
    # What is asked for now goes before; a source that has no axes to order does not mind.
    other = evaluate(tmp_path / "d.npz", ("0", "1"), preparation=trained.preparation, layout="NHWC")
    assert (other.splits["all"].inputs.numpy() == np.moveaxis(x, -1, 1)).all()
    assert len(evaluate(folder(tmp_path / "files"), preparation=trained.preparation).splits["all"]) == 12


def test_the_layout_of_grids_is_kept_too(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(12, 2, 5)), y=np.arange(12) % 2)
    trained = load_dataset(DataConfig(source=str(tmp_path / "d.npz"), layout="NCL"))
    data = evaluate(tmp_path / "d.npz", ("0", "1"), preparation=trained.preparation)
    assert data.splits["all"].inputs.shape == (12, 2, 5)


def test_samples_that_were_trained_on_are_a_finding_whatever_the_size(tmp_path):
    trained = load_dataset(DataConfig(source=str(folder(tmp_path / "a", 10))))
    seen = trained.contents["train"]
    assert [len(trained.contents[name]) for name in ("train", "val", "test")] == [14, 2, 4]
    assert all(len(bytes.fromhex(content)) == 16 for content in seen)
    folder(tmp_path / "b", 3, start=50)
    first = next(row.path for row in trained.rows if row.split == "train")
    shutil.copy(tmp_path / "a" / first, tmp_path / "b" / "cat" / "copy.png")
    for split, name in (("train", "training"), ("val", "validation")):
        data = evaluate(tmp_path / "b", preparation=Preparation("image", (3, 9, 9)), seen=dict.fromkeys(seen, split))
        (found,) = [f for f in data.findings if f.code == "data.leak"]
        assert found.severity == "warning"
        assert found.measured == f"1 of 7 samples was in the {name} split of the network"
    assert not evaluate(tmp_path / "b", seen=dict.fromkeys(trained.contents["test"], "train")).findings
    assert not evaluate(tmp_path / "b").findings


def test_contents_are_in_the_order_of_the_samples(tmp_path):
    data = load_dataset(DataConfig(source=str(folder(tmp_path, 6))))
    by_pixel = {}
    for name, split in data.splits.items():
        by_pixel |= dict(zip(split.inputs[:, 0, 0, 0].tolist(), data.contents[name], strict=True))
    whole = evaluate(tmp_path)
    for pixel, content in zip(whole.splits["all"].inputs[:, 0, 0, 0].tolist(), whole.contents["all"], strict=True):
        assert by_pixel[pixel] == content


def test_arrays_that_were_trained_on_are_found(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (20, 5, 4), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(20) % 2)
    trained = load_dataset(DataConfig(source=str(tmp_path / "d.npz"), size=(7, 7)))
    data = evaluate(
        tmp_path / "d.npz",
        ("0", "1"),
        preparation=trained.preparation,
        seen=dict.fromkeys(trained.contents["train"], "train"),
    )
    assert data.findings[0].measured.startswith(f"{len(trained.splits['train'])} of 20 samples")


def test_a_layout_of_what_has_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a layout belongs to"):
        evaluate(folder(tmp_path / "named.npz"), layout="NHWC")
