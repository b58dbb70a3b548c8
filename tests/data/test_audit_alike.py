"""Near duplicates: what counts as the same picture, and a search that agrees with comparing all pairs."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from defects import smooth
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from striate.data.audit.alike import NEAR, near_duplicate_groups
from striate.data.audit.evidence import gather_evidence
from striate.data.audit.image_statistics import LENGTH, ImageStatistics, describe_lumas, measure_images
from striate.data.audit.leaks import find_leaks
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.sources.arrays import list_arrays

CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda image: encoded(image, 50),
    "half as large": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "larger, re-encoded": lambda image: encoded(image.resize((image.width * 2, image.height * 2)), 75),
    "of another aspect": lambda image: image.resize((image.width, image.height * 3 // 4)),
    "gray": lambda image: image.convert("L"),
}


def encoded(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out)


def listing_of(images: list[Image.Image]) -> Listing:
    def read(number: int) -> bytes:
        out = io.BytesIO()
        images[number].save(out, "PNG")
        return out.getvalue()

    names = tuple(f"{number}.png" for number in range(len(images)))
    return Listing("set", "set", "image", "class", names, ("a",) * len(names), (None,) * len(names), None, read=read)


def groups_of(images: list[Image.Image]) -> tuple[tuple[int, ...], ...]:
    ids = range(len(images))
    return near_duplicate_groups(measure_images(listing_of(images), ids, {}, 10**6), (), ids)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_is_the_same_and_others_are_not(change: str) -> None:
    images = [smooth(i, 64) for i in range(6)]
    assert groups_of([*images, CHANGES[change](images[2])]) == ((2, 6),)


def test_a_darker_or_flatter_or_mirrored_picture_is_another() -> None:
    image = smooth(1, 64)
    others = [
        image.point(lambda v: v // 2),
        image.point(lambda v: 100 + v // 4),
        image.transpose(Image.Transpose.ROTATE_90),
    ]
    assert groups_of([image, *others]) == ()


def test_drawings_that_differ_in_color_or_size_of_a_thing_are_different() -> None:
    def drawn(color: str, radius: int) -> Image.Image:
        image = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(image).ellipse([32 - radius, 32 - radius, 32 + radius, 32 + radius], color)
        return image

    assert groups_of([drawn("black", 12), drawn("yellow", 12), drawn("black", 16), drawn("blue", 20)]) == ()


def test_a_part_or_a_mirror_image_in_another_split_is_a_leak_within_its_class() -> None:
    images = [smooth(i, 96) for i in range(8)]
    parts = [
        images[1].crop((10, 5, 80, 75)),
        images[2].transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        images[3].crop((0, 20, 76, 96)).transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        images[4].crop((10, 5, 80, 75)),
    ]
    listing = listing_of([*images, *parts])
    given: tuple[str | None, ...] = ("train",) * 8 + ("test",) * 4
    listing = replace(listing, given=given, labels=("a",) * 11 + ("b",), classes=("a", "b"))
    listing = replace(listing, targets=np.array([0] * 11 + [1]))
    found = find_leaks(gather_evidence(listing, DataConfig(val_fraction=0.1)))
    assert found is not None
    assert {group[-1]: group[0] for group in found.groups} == {8: 1, 9: 2, 10: 3}
    assert "mirror image" in found.finding.measured


def test_even_pictures_are_alike_to_nothing() -> None:
    assert groups_of([Image.new("RGB", (32, 32), (k, k, k)) for k in (0, 1, 2, 255)]) == ()


def statistics_from(descriptions: np.ndarray) -> ImageStatistics:
    count = len(descriptions)
    ones = np.ones(count, np.float32)
    return ImageStatistics(
        descriptions.astype(np.float32), ones, 10 * ones, ones, np.ones((count, 2), np.int64), {}, {}, {}, {}
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 8))
@settings(max_examples=50)
def test_the_search_agrees_with_comparing_all_pairs(seed: int, count: int, centers: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(centers, LENGTH))[rng.integers(0, centers, count)]
    points += rng.normal(size=points.shape) * 0.035 * rng.random((count, 1))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = points.astype(np.float32).astype(np.float64)
    near = np.linalg.norm(points[:, None] - points[None], axis=2) <= NEAR
    reach = np.linalg.matrix_power(near.astype(float), count) > 0
    expected = {tuple(np.flatnonzero(row).tolist()) for row in reach if row.sum() > 1}
    groups = near_duplicate_groups(statistics_from(points), (), range(count))
    # Of many near ones only the nearest are joined, so a group may come in parts; none is joined wrongly.
    if count <= 12:
        assert set(groups) == expected
    for group in groups:
        assert any(set(group) <= set(whole) for whole in expected)


def test_a_thousand_copies_are_one_group_and_cost_no_thousand_squared() -> None:
    points = np.random.default_rng(0).normal(size=(1, LENGTH)).repeat(1000, axis=0)
    groups = near_duplicate_groups(statistics_from(points / np.linalg.norm(points[0])), (), range(1000))
    assert [len(group) for group in groups] == [1000]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_a_description_has_length_1_and_ignores_brightness_and_contrast(seed: int) -> None:
    lumas = np.random.default_rng(seed).integers(0, 100, (3, 32, 32)).astype(np.uint8)
    descriptions, means, contrasts = describe_lumas(np.concatenate([lumas, 2 * lumas + 50]))
    assert np.allclose(np.linalg.norm(descriptions, axis=1), 1, atol=1e-5)
    assert np.allclose(descriptions[:3], descriptions[3:], atol=1e-4)
    assert np.allclose(means[3:], 2 * means[:3] + 50, rtol=1e-4)
    assert np.allclose(contrasts[3:], 2 * contrasts[:3], rtol=1e-3)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=40),
    st.integers(0, 5),
    st.sampled_from(["none", "test", "all"]),
)
@settings(max_examples=60)
def test_the_splits_made_here_never_leak_exact_copies(
    samples: list[tuple[int, int]], seed: int, given_splits: str
) -> None:
    """Whatever is copied, also under another label: a copy is in another split only where the source says so."""
    x = np.stack([np.random.default_rng(content).integers(0, 256, (8, 8), dtype=np.uint8) for content, _ in samples])
    y = np.array([label for _, label in samples])
    half = len(x) // 2
    blocks: dict[str | None, tuple[np.ndarray, np.ndarray]] = {None: (x, y)}
    if given_splits != "none" and half:
        blocks = {"train": (x[:half], y[:half]), "test": (x[half:], y[half:])}
    listing = list_arrays("set", "set", blocks)
    if given_splits == "all" and half:
        listing = replace(listing, given=tuple("val" if k % 3 == 0 else g for k, g in enumerate(listing.given)))
    evidence = gather_evidence(listing, DataConfig(split_seed=seed))
    for group in evidence.equal:
        made = {evidence.splits[number] for number in group if listing.given[number] is None}
        assert len(made) <= 1
        homes = {(listing.given[number], evidence.splits[number]) for number in group}
        stays = {given for given, _ in homes}
        assert len({split for _, split in homes}) <= len(stays)
    if given_splits == "none":
        leak = find_leaks(evidence)
        assert leak is None or all(len({evidence.scan.contents[n] for n in group}) > 1 for group in leak.groups)
