"""Other ways to compute a step, beside that of striate: what was thought of to make it faster, and what it gives.

Command: python benchmarks/step_ways.py [--repeats 5] [--compiled]

A step is forward, backward and update: the lectures' network (AdamW) and CIFAR ResNet-18 of width 32 and 64 (SGD with
momentum), batch 128, noise of ten classes in memory. The first row is what striate does on this machine: bf16 by
autocast, channels last, freed memory kept, max pooling before ReLU, one fused call of the optimizer. Each other row
differs in what it says, and in that alone. A turn is a second of steps; contenders take turns in one process.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from common.contender import Contender
from common.measure import Measured
from common.results import arguments, case, parsed, show, write_result

BATCH = 128
OURS = "striate"
WORKLOADS = (
    ("mnist-cnn", (1, 28, 28), "adamw"),
    ("resnet18(stem=small,width=32)", (3, 32, 32), "sgd"),
    ("resnet18(stem=small,width=64)", (3, 32, 32), "sgd"),
)
Step = Callable[[], None]


def optimizer_of(kind: str, parameters: Any, **how: Any) -> Any:
    """As `striate train` has them, but for `how`."""
    import torch

    if kind == "adamw":
        return torch.optim.AdamW(parameters, lr=1e-4, **how)
    return torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=5e-4, **how)


def backward(module: Any, x: Any, y: Any, *, parts: int = 1, autocast: bool = True) -> None:
    """Forward and backward pass, in so many parts of the batch."""
    import torch
    from torch.nn import functional

    from striate.training.config import ExecutionConfig
    from striate.training.pool_first import pooling_first

    for images, targets in zip(x.chunk(parts), y.chunk(parts), strict=True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast), pooling_first(module, ExecutionConfig()):
            logits = module(images)
        functional.cross_entropy(logits.float(), targets).div(parts).backward()


def usual(module: Any, x: Any, y: Any, kind: str, *, parts: int = 1, **how: Any) -> Step:
    """The step of striate, with another optimizer or in parts."""
    optimizer = optimizer_of(kind, module.parameters(), **(how or {"fused": True}))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward(module, x, y, parts=parts)
        optimizer.step()

    return step


def one_buffer(module: Any, x: Any, y: Any, kind: str) -> Step:
    """All parameters are parts of one vector, and so are their gradients: one update of one tensor."""
    import torch

    parameters = list(module.parameters())
    weights = torch.cat([p.detach().permute(_order(p)).reshape(-1) for p in parameters])
    gradients = torch.zeros_like(weights)
    at = 0
    for p in parameters:
        order = _order(p)
        back = [order.index(axis) for axis in range(p.ndim)]
        shape = [p.shape[axis] for axis in order]
        for whole, name in ((weights, "data"), (gradients, "grad")):
            setattr(p, name, whole[at : at + p.numel()].view(shape).permute(back))
        at += p.numel()
    weights.grad = gradients
    optimizer = optimizer_of(kind, [weights.requires_grad_()], fused=True)

    def step() -> None:
        gradients.zero_()
        backward(module, x, y)
        optimizer.step()

    return step


def _order(p: Any) -> list[int]:
    return [0, 2, 3, 1] if p.ndim == 4 else list(range(p.ndim))  # channels last


def in_backward(module: Any, x: Any, y: Any, kind: str) -> Step:
    """Each parameter is updated as soon as its gradient is there."""
    optimizers = {p: optimizer_of(kind, [p], fused=True) for p in module.parameters()}

    def update(p: Any) -> None:
        optimizers[p].step()
        p.grad = None

    for p in optimizers:
        p.register_post_accumulate_grad_hook(update)
    return partial(backward, module, x, y)


def copies(module: Any, x: Any, y: Any, kind: str, *, rounded: bool = False) -> Step:
    """The network is in bf16, without autocast; fp32 weights lie beside it, or (`rounded`) none: updated weights are
    rounded up or down by chance."""
    import torch

    masters = [p.detach().clone().requires_grad_() for p in module.parameters()]
    module.to(torch.bfloat16)
    weights = list(module.parameters())
    x = x.to(torch.bfloat16)
    optimizer = optimizer_of(kind, masters, fused=True)

    def step() -> None:
        for p in weights:
            p.grad = None
        backward(module, x, y, autocast=False)
        for master, p in zip(masters, weights, strict=True):
            if rounded:
                master.data.copy_(p.data)
            assert p.grad is not None
            master.grad = p.grad.float()
        optimizer.step()
        if rounded:
            for master in masters:  # bits below those of bf16, plus as many of chance, cut off
                bits = master.data.view(torch.int32)
                bits.add_(torch.randint_like(bits, 1 << 16)).bitwise_and_(-(1 << 16))
        torch._foreach_copy_([p.data for p in weights], [master.data for master in masters])

    return step


def compiled(module: Any, x: Any, y: Any, kind: str, *, mode: str) -> Step:
    """`torch.compile` in a mode; without pooling before ReLU, which the compiler may decide itself."""
    import torch
    from torch.nn import functional

    fast, optimizer = torch.compile(module, mode=mode), optimizer_of(kind, module.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            logits = fast(x)
        functional.cross_entropy(logits.float(), y).backward()
        optimizer.step()

    return step


WAYS: dict[str, Callable[..., Step]] = {
    OURS: usual,
    "the optimizer in lists of tensors (foreach)": partial(usual, foreach=True),
    "the optimizer tensor by tensor": partial(usual, foreach=False),
    "all parameters in one buffer": one_buffer,
    "each parameter updated within the backward pass": in_backward,
    "bf16 copies of the weights, no autocast": copies,
    "bf16 weights alone, rounded by chance": partial(copies, rounded=True),
    "2 parts of the batch": partial(usual, parts=2),
    "4 parts of the batch": partial(usual, parts=4),
}
COMPILED: dict[str, Callable[..., Step]] = {
    "compiled": partial(compiled, mode="default"),
    "compiled, max-autotune": partial(compiled, mode="max-autotune"),
}


def compare(name: str, shape: tuple[int, ...], kind: str, ways: dict[str, Callable[..., Step]], asked: Any) -> Any:
    """One case: turns of all ways, one after the other."""
    import torch

    from striate.models.build import build_model

    torch.manual_seed(0)
    module = build_model(name, shape, 10).train().to(memory_format=torch.channels_last)
    x = torch.randn(BATCH, *shape).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (BATCH,))
    found = [Measured(Contender(way, "", ours=way == OURS), facts={"precision": "bf16"}) for way in ways]
    steps = [make(copy.deepcopy(module), x, y, kind) for make in ways.values()]
    for step in steps:
        for _ in range(3):
            step()
    for _ in range(asked.repeats):
        for one, step in zip(found, steps, strict=True):
            one.turns.append(turn(step, 0.05 if asked.quick else 1.0))
    return case(f"{name}, batch {BATCH}", found)


def turn(step: Step, seconds: float) -> dict[str, float]:
    """Steps for so many seconds; a step more before the clock runs, since another network was in the caches."""
    step()
    began, count = perf_counter(), 0
    while count < 3 or perf_counter() - began < seconds:
        step()
        count += 1
    return {"samples": count * BATCH, "seconds": perf_counter() - began}


LAYERS = ((1, 16, 5, 28), (16, 24, 5, 12), (64, 64, 3, 32), (256, 256, 3, 8))
"""Channels, kernel and side of inputs: convolutions of these networks."""


def convolution(layer: tuple[int, int, int, int], asked: Any) -> Any:
    """The forward pass of a convolution and ReLU: as torch does it, as one kernel, and with weights laid out before."""
    import torch

    channels, maps, kernel, side = layer
    x = torch.randn(BATCH, channels, side, side).bfloat16().contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(maps, channels, kernel, kernel).bfloat16(), torch.randn(maps).bfloat16()
    laid_out = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[attr-defined]
        weight.to_mkldnn(), [0, 0], [1, 1], [1, 1], 1, list(x.shape)
    )
    weight = weight.contiguous(memory_format=torch.channels_last)
    fused = torch.ops.mkldnn._convolution_pointwise
    ways = {
        OURS: lambda: torch.relu(torch.conv2d(x, weight, bias)),
        "one kernel": lambda: fused(x, weight, bias, [0, 0], [1, 1], [1, 1], 1, "relu", [], ""),
        "one kernel, weights laid out before": lambda: fused(
            x, laid_out, bias, [0, 0], [1, 1], [1, 1], 1, "relu", [], ""
        ),
    }
    found = [Measured(Contender(way, "", ours=way == OURS), facts={"precision": "bf16"}) for way in ways]
    with torch.no_grad():
        for _ in range(asked.repeats):
            for one, step in zip(found, ways.values(), strict=True):
                one.turns.append(turn(step, 0.05 if asked.quick else 0.3))
    shown = f"{channels} to {maps} channels, kernel {kernel}, {side} × {side}"
    return case(f"convolution and ReLU, forward: {shown}", found)


def main() -> None:
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--compiled", action="store_true", help="also torch.compile, which takes minutes")
    asked = parsed(parser)
    from striate.machine.allocator import keep_by_default, keep_freed_memory

    keep_by_default()
    keep_freed_memory()
    ways, cases = WAYS | (COMPILED if asked.compiled else {}), []
    for name, shape, kind in WORKLOADS[:1] if asked.quick else WORKLOADS:
        cases.append(compare(name, shape, kind, ways, asked))
        print(show(cases[-1]), flush=True)
    for layer in LAYERS[:2] if asked.quick else LAYERS:
        cases.append(convolution(layer, asked))
        print(show(cases[-1]), flush=True)
    about = (
        "A step (forward, backward, update) of a batch in memory. `striate` is bf16 by autocast, channels last, freed "
        "memory kept, pooling before ReLU, one fused call of the optimizer; each other row differs in what it says. "
        "Contenders take turns of a second in one process. Weights that are laid out before serve the forward pass "
        "alone: training changes them with each step. Larger pages of memory, tried with whole commands, gave nothing."
    )
    print(write_result(__file__, asked, cases, about=about))


if __name__ == "__main__":
    main()
