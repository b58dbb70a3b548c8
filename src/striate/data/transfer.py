"""Batches from memory to an accelerator, the next one on its way while the device computes on this one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

DEVICE_SHARE = 0.4
"""Inputs are kept on an accelerator where they take no more than this share of its free memory."""


def fits_on(inputs: torch.Tensor, device: torch.device) -> bool:
    """Whether the inputs of a split may be kept on `device` whole: of CUDA devices, as far as memory is free."""
    if device.type != "cuda" or inputs.device == device:
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return inputs.numel() * inputs.element_size() <= DEVICE_SHARE * free


def sent(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`values` from memory on `device`, in its turn there: nobody waits for what the device still has to do.

    For CUDA from page-locked memory; a plain copy, or none, elsewhere.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()  # torch keeps it until the copy is done, and uses it again then
    return values.to(device, non_blocking=True)


def copied_ahead(batches: Iterable[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
    """The same batches on `device`, in order.

    For CUDA each is copied from page-locked memory on a stream of its own, one batch ahead, and the stream that takes
    it waits until it is there. Elsewhere, a plain copy, and none where they are on the device.
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
    copy.record_stream(current)  # its memory is not given away while this stream still reads it
    return copy
