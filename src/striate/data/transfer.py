"""Copies batches from memory to an accelerator; the next batch is copied while the device computes on the current
one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

DEVICE_SHARE = 0.4
"""Inputs stay on an accelerator if they take at most this share of its free memory."""


def fits_on(inputs: torch.Tensor, device: torch.device) -> bool:
    """Whether all inputs of a split may stay on `device`; on CUDA devices, if enough memory is free."""
    if device.type != "cuda" or inputs.device == device:
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return inputs.numel() * inputs.element_size() <= DEVICE_SHARE * free


def sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`values` copied from memory to `device`, without waiting for earlier work of the device.

    On CUDA the copy is from page-locked memory; elsewhere it is a plain copy, or none.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()  # torch keeps this memory until the copy is done, then reuses it
    return values.to(device, non_blocking=True)


def copied_ahead(batches: Iterable[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
    """The same batches on `device`, in order.

    On CUDA, each batch is copied from page-locked memory on a separate stream, one batch ahead, and the current stream
    waits for it. Elsewhere it is a plain copy, or none if the batches are on the device.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    side = torch.cuda.Stream(device)
    coming: tuple[torch.Tensor, torch.cuda.Event] | None = None
    for batch in batches:
        arrived, coming = coming, _sent(batch, device, side)
        if arrived is not None:
            yield _received(*arrived)
    if coming is not None:
        yield _received(*coming)


def _sent(batch: torch.Tensor, device: torch.device, side: torch.cuda.Stream) -> tuple[torch.Tensor, torch.cuda.Event]:
    with torch.cuda.stream(side):
        copy = sent(batch, device)
        done = torch.cuda.Event()
        done.record(side)
    return copy, done


def _received(copy: torch.Tensor, done: torch.cuda.Event) -> torch.Tensor:
    current = torch.cuda.current_stream(copy.device)
    current.wait_event(done)
    copy.record_stream(current)  # its memory is not reused while this stream still reads it
    return copy
