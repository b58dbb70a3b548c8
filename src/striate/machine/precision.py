"""The precisions that networks are computed in, and how a GPU computes fp32 products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "tf32", "bf16", "fp16"]


def dtype_of(precision: Precision) -> torch.dtype:
    """The type of the factors of products in this precision; `tf32` takes fp32 and rounds inside."""
    import torch

    types = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return types[precision]


def bf16_on_cpu() -> bool:
    """Whether the processor has bf16 instructions; without them, bf16 is emulated and slower than fp32."""
    import torch

    if torch.backends.cpu.get_cpu_capability().startswith("AVX"):  # where oneDNN also accepts emulated bf16
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


_SIDE, _ROUNDS = 512, 5


@cache
def bf16_pays_on_cpu() -> bool:
    """Whether bf16 products are faster than fp32 ones on this processor, timed once in some hundredths of a second:
    some processors with bf16, such as virtual machines that hide matrix units, take twice as long for it."""
    if not bf16_on_cpu():
        return False
    import torch

    factors = [torch.ones(_SIDE, _SIDE, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    best = [float("inf")] * len(factors)
    with torch.autocast("cpu", enabled=False):
        for number in range(_ROUNDS + 1):
            for which, factor in enumerate(factors):
                began = perf_counter()
                torch.mm(factor, factor)
                if number:  # the first chooses a kernel
                    best[which] = min(best[which], perf_counter() - began)
    return best[1] < best[0]


@contextmanager
def fp32_products(*, tf32: bool, deterministic: bool | None = None) -> Iterator[None]:
    """While open, a GPU computes fp32 products and convolutions in fp32, or with factors rounded to 10 bits (`tf32`,
    torch's default for convolutions).

    `deterministic`: whether convolutions give the same numbers each time; None leaves it as it is.
    """
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32
    same = cudnn.deterministic if deterministic is None else deterministic
    with cudnn.flags(enabled=cudnn.enabled, deterministic=same, benchmark=False, allow_tf32=tf32):
        try:
            matmul.allow_tf32 = tf32
            yield
        finally:
            matmul.allow_tf32 = before
