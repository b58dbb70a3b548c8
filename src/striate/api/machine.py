"""Measuring the machine."""

from __future__ import annotations

from functools import partial

from striate.machine.rates import Rate, decoding_rates, matrix_product_rates, memory_rates

SMALL = 160
"""Side in pixels to which photographs are brought in the second measurement of decoding."""


def measure_machine() -> tuple[Rate, ...]:
    """What the machine can do: matrix products by precision and library (of GPUs too), memory bandwidth, decoding
    photographs with striate's own reader, whole and brought to 160 × 160, on one thread. Takes a few seconds."""
    import torch

    from striate.data.dataset import Preparation
    from striate.data.media.image.pictures import decode_image

    def decode(data: bytes, shape: tuple[int, int, int]) -> object:
        return decode_image(data, "a photograph", Preparation("image", shape))

    devices = ["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    whole, small = (partial(decode, shape=(3, *size)) for size in ((427, 640), (SMALL, SMALL)))
    return (
        *(rate for device in devices for rate in matrix_product_rates(device)),
        *memory_rates(),
        *decoding_rates(whole, how="whole"),
        *decoding_rates(small, how=f"to {SMALL} × {SMALL}"),
    )
