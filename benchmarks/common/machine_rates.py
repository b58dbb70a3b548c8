"""What the machine can do, as a contender like the others: measured in the same run, at the same times."""

from __future__ import annotations

from typing import Any

from common.contender import Contender
from common.gate import Gate
from common.measure import Measured

MATRIX_PRODUCTS = Contender("matrix products", "matrix_products")
"""Add it to the contenders of a workload that imports `matrix_products`."""


def matrix_products(gate: Gate, device: str = "cpu") -> None:
    """Each turn measures the rates of matrix products; the best of all turns counts."""
    from striate.machine.rates import matrix_product_rates

    while True:
        gate.begin()
        rates = matrix_product_rates(device, seconds=0.15)
        gate.end(samples=len(rates), rates=[rate.to_json() for rate in rates])


def best_rates(measured: Measured) -> list[dict[str, Any]]:
    """Of all turns the best rate of each precision and library, with the number of turns that it is the best of."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for turn in (*measured.warm_up, *measured.turns):
        for rate in turn["rates"]:
            key = rate["precision"], rate["how"]
            if key not in best or rate["best"] > best[key]["best"]:
                best[key] = rate
    return list(best.values())


def utilisation(
    images_per_second: float, macs: int, precision: str, rates: list[dict[str, Any]], *, training: bool
) -> float | None:
    """Achieved FLOP/s over the best matrix-product rate in the same precision; None where that was not measured.

    Convention: 2 FLOPs a multiply–accumulate of convolutions and matrix products; training counts three times the
    forward pass (forward, gradient of inputs, gradient of weights), also for the first layer, whose inputs need no
    gradient; all else (activations, pooling, optimizer, augmentation) counts nothing.
    """
    found = [rate["best"] for rate in rates if rate["precision"] == precision]
    if not found:
        return None
    return images_per_second * macs * 2 * (3 if training else 1) / 1e9 / max(found)
