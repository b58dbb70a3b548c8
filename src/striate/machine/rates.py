"""How fast this machine does what networks consist of, next to the lectures' table of processors."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from striate.machine.memory import available_bytes
from striate.machine.precision import Precision, dtype_of, fp32_products

if TYPE_CHECKING:
    import torch

SIZES = (1024, 2048)
"""Sides of the square matrices on a CPU: the smaller fits into caches, the larger keeps many cores busy."""
GPU_SIZES = (4096, 8192)
ARRAY_BYTES = 128 * 2**20
"""Size of each array whose copying is timed: larger than caches."""


@dataclass(frozen=True)
class Rate:
    """A measured rate."""

    what: str
    """`matrix product`, `memory` or `decoding`."""
    how: str
    """Library, device or operation."""
    precision: Precision | None
    """Precision of a matrix product. None for others."""
    size: str
    """The size of the work, in words."""
    unit: str
    """Such as GFLOP/s."""
    best: float
    """Of the fastest repeat."""
    median: float
    """Of the median repeat."""
    slowest: float
    """Of the slowest repeat."""
    repeats: int
    """Number of timed repeats."""

    def to_json(self) -> dict[str, Any]:
        """The rate as a JSON object."""
        return asdict(self)


def matrix_product_rates(
    device: str = "cpu", *, sizes: Sequence[int] | None = None, seconds: float = 0.25
) -> tuple[Rate, ...]:
    """Rates of products of square matrices in GFLOP/s, for each precision and library of the device.

    On a CPU: fp32 by the library of `torch.mm` (MKL where torch was built with it) and by oneDNN, which computes
    convolutions; bf16 by oneDNN. On a GPU: fp32, tf32, bf16, fp16. Each of the `sizes`, in this order, is timed
    for about `seconds`, at least three times, until one product takes longer than a second; the size with the best rate
    counts.
    """
    import torch

    kind = torch.device(device).type
    chosen = sizes or (GPU_SIZES if kind == "cuda" else SIZES)
    makers = _gpu_products(device) if kind == "cuda" else _cpu_products()
    rates = []
    for (precision, how), make in makers.items():
        found: list[Rate] = []
        for size in chosen:
            found.append(_product_rate(make(size), precision, how, size, seconds))
            if found[-1].repeats == 1:  # a precision that the processor emulates: the next size would take minutes
                break
        rates.append(max(found, key=lambda rate: rate.best))
    return tuple(rates)


def memory_rates(*, array_bytes: int | None = None, seconds: float = 0.25) -> tuple[Rate, ...]:
    """Memory bandwidth of all threads in GB/s (10⁹ bytes), as STREAM counts it: bytes read plus bytes written by `copy`
    (a = b) and `triad` (a = b + s·c) over float32 arrays of `array_bytes` each."""
    import torch

    many = max(1024, (array_bytes or min(ARRAY_BYTES, available_bytes() // 8)) // 4)
    b, c = torch.ones(many), torch.ones(many)
    a = torch.zeros(many)
    size = f"{many * 4 / 2**20:.0f} MiB each"

    def rate(how: str, arrays: int, work: Callable[[], object]) -> Rate:
        gigabytes = arrays * 4 * many / 1e9
        return _rate("memory", how, None, size, "GB/s", gigabytes, _repeat(work, seconds))

    return rate("copy", 2, lambda: a.copy_(b)), rate("triad", 3, lambda: torch.add(b, c, alpha=3.0, out=a))


def convolution_training_rate(device: str, precision: Precision) -> float:
    """Multiply–accumulates per second of training steps of two 3×3 convolutions with their normalizations, forward and
    backward, in channels_last: the best of at least three, for about 0.1 seconds."""
    import torch
    from torch import nn

    channels, side = 64, 32
    batch = 16 if torch.device(device).type == "cpu" else 512  # fewer leave a GPU idle
    layers = [nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    with torch.random.fork_rng(), torch.enable_grad():
        network = nn.Sequential(*layers, nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = torch.rand(batch, channels, side, side, device=device).to(memory_format=torch.channels_last)
        inputs.requires_grad_()

        def step() -> None:
            with torch.autocast(torch.device(device).type, dtype_of(precision), enabled=precision != "fp32"):
                outputs = network(inputs)
            outputs.float().sum().backward()
            if device != "cpu":
                torch.cuda.synchronize(device)

        times = _repeat(step, 0.1)
    return 3 * 2 * batch * side * side * 9 * channels * channels / min(times)


def decoding_rates(
    decode: Callable[[bytes], object], *, how: str = "one thread", seconds: float = 0.25
) -> tuple[Rate, ...]:
    """Rates at which `decode` reads a JPEG photograph (scikit-learn's flower, 640 × 427, quality 90), in images/s and
    in megapixels/s of the file."""
    photograph, pixels = _photograph()
    times = _repeat(lambda: decode(photograph), seconds)
    size = "640 × 427, JPEG"
    return (
        _rate("decoding", how, None, size, "images/s", 1.0, times),
        _rate("decoding", how, None, size, "megapixels/s", pixels / 1e6, times),
    )


def best_rate(rates: Sequence[Rate], precision: Precision) -> Rate | None:
    """The fastest matrix product in a precision; None where none was measured."""
    found = [rate for rate in rates if rate.what == "matrix product" and rate.precision == precision]
    return max(found, key=lambda rate: rate.best, default=None)


def _cpu_products() -> dict[tuple[Precision, str], Callable[[int], Callable[[], object]]]:
    import torch
    from torch.nn.functional import linear

    def by_torch(dtype: torch.dtype) -> Callable[[int], Callable[[], object]]:
        def make(size: int) -> Callable[[], object]:
            a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
            out = torch.empty_like(a)
            return lambda: torch.mm(a, b, out=out)

        return make

    def by_onednn(size: int) -> Callable[[], object]:
        a, b = torch.randn(size, size).to_mkldnn(), torch.randn(size, size).to_mkldnn()
        return lambda: linear(a, b)

    library = "MKL" if torch.backends.mkl.is_available() else "BLAS of torch"
    products: dict[tuple[Precision, str], Callable[[int], Callable[[], object]]] = {
        ("fp32", library): by_torch(torch.float32)
    }
    if torch.backends.mkldnn.is_available():
        products["fp32", "oneDNN"] = by_onednn
    bf16 = "oneDNN" if torch.backends.mkldnn.is_available() else "torch"
    return products | {("bf16", bf16): by_torch(torch.bfloat16)}


def _gpu_products(device: str) -> dict[tuple[Precision, str], Callable[[int], Callable[[], object]]]:
    import torch

    name = torch.cuda.get_device_name(device)

    def by(dtype: torch.dtype, tf32: bool = False) -> Callable[[int], Callable[[], object]]:
        def make(size: int) -> Callable[[], object]:
            a = torch.randn(size, size, device=device).to(dtype)
            b, out = torch.randn_like(a), torch.empty_like(a)

            def work() -> None:
                with fp32_products(tf32=tf32):
                    torch.mm(a, b, out=out)
                torch.cuda.synchronize(device)

            return work

        return make

    return {
        ("fp32", name): by(torch.float32),
        ("tf32", name): by(torch.float32, tf32=True),
        ("bf16", name): by(torch.bfloat16),
        ("fp16", name): by(torch.float16),
    }


def _product_rate(work: Callable[[], object], precision: Precision, how: str, size: int, seconds: float) -> Rate:
    times = _repeat(work, seconds)
    return _rate("matrix product", how, precision, f"{size} × {size}", "GFLOP/s", 2 * size**3 / 1e9, times)


def _repeat(work: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call, at least three, for about `seconds` in all, after a warm-up call; fewer if a call takes
    longer than that and than a second."""
    work()
    times: list[float] = []
    began = perf_counter()
    while len(times) < 3 or perf_counter() - began < seconds:
        started = perf_counter()
        work()
        times.append(perf_counter() - started)
        if times[-1] > max(seconds, 1):
            break
    return times


def _rate(
    what: str, how: str, precision: Precision | None, size: str, unit: str, amount: float, times: Sequence[float]
) -> Rate:
    best, median, slowest = (amount / t for t in (min(times), statistics.median(times), max(times)))
    return Rate(what, how, precision, size, unit, best, median, slowest, len(times))


def _photograph() -> tuple[bytes, int]:
    """The bytes of a JPEG file, and its number of pixels."""
    from io import BytesIO

    from PIL import Image
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image("flower.jpg"))
    file = BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue(), image.width * image.height


SOURCE = "deck A, slides “CPU vs GPU”, after Stanford CS231n; peaks as their makers state them, about 2017"


@dataclass(frozen=True)
class Processor:
    """A processor of the lectures' table; rates in GFLOP/s."""

    name: str
    kind: str
    cores: str
    clock_ghz: float | None
    """None: not in the table."""
    memory: str
    price: str
    fp32_rate: float | None
    """None: not in the table."""
    other_rate: float | None = None
    """Rate in the precision `other`. None: not in the table."""
    other: str | None = None
    """That precision; `?` where the table does not name it."""

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return asdict(self)


LECTURE_PROCESSORS = (
    Processor("Intel Core i7-7700K", "CPU", "4", 4.2, "RAM", "$339", 540.0),
    Processor("NVIDIA GTX 1080 Ti", "GPU", "3,584", 1.6, "11 GB", "$699", 11_400.0),
    Processor("NVIDIA Titan V", "GPU", "5,120 + 640", 1.5, "12 GB", "$2,999", 14_000.0, 112_000.0, "fp16"),
    Processor("Google Cloud TPU", "TPU", "?", None, "64 GB", "$6.50/h", None, 180_000.0, "?"),
)
