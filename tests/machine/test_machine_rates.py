"""Rates: what is measured, in which unit, and that a slower operation gets a lower rate."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep

import pytest

from striate.machine import rates
from striate.machine.rates import Rate


def made(what: str, how: str, precision: rates.Precision | None, best: float) -> Rate:
    return Rate(what, how, precision, "", "GFLOP/s", best, best, best, 3)


def test_a_rate_is_the_amount_over_the_shortest_time_beside_median_and_slowest() -> None:
    rate = rates._rate("matrix product", "x", "fp32", "", "GFLOP/s", 6.0, [2.0, 1.0, 3.0])
    assert (rate.best, rate.median, rate.slowest, rate.repeats) == (6.0, 3.0, 2.0, 3)


def test_a_processor_s_products_come_in_both_precisions() -> None:
    found = rates.matrix_product_rates(sizes=(64, 128), seconds=0.002)
    assert {rate.precision for rate in found} >= {"fp32", "bf16"}
    assert len({(rate.precision, rate.how) for rate in found}) == len(found)
    for rate in found:
        assert rate.unit == "GFLOP/s"
        assert rate.best >= rate.median >= rate.slowest > 0
        assert rate.repeats >= 3
        assert rate.size in ("64 × 64", "128 × 128")


def test_a_precision_that_takes_over_a_second_for_a_small_product_is_not_timed_with_a_larger_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def emulated(size: int) -> Callable[[], object]:
        asked.append(size)
        return lambda: sleep(1.05)

    monkeypatch.setattr(rates, "_cpu_products", lambda: {("bf16", "emulated"): emulated})
    (rate,) = rates.matrix_product_rates(sizes=(64, 128), seconds=0.002)
    assert asked == [64]
    assert (rate.size, rate.repeats) == ("64 × 64", 1)


def test_memory_is_counted_as_bytes_read_and_written() -> None:
    copy, triad = rates.memory_rates(array_bytes=2**20, seconds=0.01)
    assert (copy.how, triad.how) == ("copy", "triad")
    for rate in (copy, triad):
        assert rate.unit == "GB/s"
        assert rate.size == "1 MiB each"
        assert 0.05 < rate.best < 20_000  # from a crawl to what no machine has: the unit is right


def test_decoding_gives_images_and_megapixels_of_the_same_measurement() -> None:
    sizes: list[int] = []

    def decode(data: bytes) -> None:
        assert data[:2] == b"\xff\xd8", "a JPEG file"
        sizes.append(len(data))
        sleep(0.001)

    images, megapixels = rates.decoding_rates(decode, seconds=0.01)
    assert (images.unit, megapixels.unit) == ("images/s", "megapixels/s")
    assert images.best <= 1000
    assert megapixels.best == pytest.approx(images.best * 640 * 427 / 1e6)
    assert len(sizes) == images.repeats + 1


def test_the_best_rate_of_a_precision_is_of_products_alone() -> None:
    found = (
        made("matrix product", "MKL", "fp32", 200.0),
        made("matrix product", "oneDNN", "fp32", 400.0),
        made("memory", "copy", None, 900.0),
    )
    best = rates.best_rate(found, "fp32")
    assert best is not None
    assert best.how == "oneDNN"
    assert rates.best_rate(found, "bf16") is None


def test_a_rate_is_plain_json() -> None:
    value = made("memory", "copy", None, 1.5).to_json()
    assert value["best"] == 1.5
    assert set(value) == {"what", "how", "precision", "size", "unit", "best", "median", "slowest", "repeats"}
