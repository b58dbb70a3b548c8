"""Where and how a run computes: device, threads, precision, memory format, compilation, allocator."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from striate.data.dataset import Dataset
from striate.errors import ConfigError, TrainingError
from striate.machine.allocator import allocator_policy, available, usual_policy
from striate.machine.library_caches import load_compiler
from striate.machine.load import current_load, maybe_busy, own_cores
from striate.machine.memory import ran_out
from striate.machine.precision import bf16_on_cpu, dtype_of, fp32_products
from striate.training.config import Config, ExecutionConfig
from striate.training.deterministic import deterministic_operations
from striate.wording import several


def decide_execution(config: Config, data: Dataset) -> Config:
    """Fill in `execution.device` and `execution.threads`; with `execution.plan: plain`, all open fields. Otherwise the
    plan decides the rest later. Raises ConfigError for a device that does not exist, and for what the device cannot
    do."""
    execution = config.execution
    device = execution.device or ("cuda" if torch.cuda.is_available() else "cpu")
    named_device(device, "execution.device", "--device cpu")
    # A matrix of a few hundred numbers is done before a second thread wakes up.
    threads = execution.threads or (1 if data.medium.flat else _usual_threads(execution))
    execution = replace(execution, device=device, threads=threads)
    refuse_impossible_execution(execution)
    return replace(config, execution=as_plain(execution) if execution.plan == "plain" else execution)


def _usual_threads(execution: ExecutionConfig) -> int:
    """All threads; one on busy cores, where threads wait for each other and one is always late. Where batches have
    fixed parts, the cores divided by the parts, in any number of processes, since bits depend on the number of
    threads."""
    if (execution.batch_parts or 1) > 1:
        return max(1, len(own_cores()) // (execution.batch_parts or 1))
    threads = torch.get_num_threads()
    if execution.plan == "plain" or threads == 1 or not maybe_busy():
        return threads
    return 1 if current_load().busy else threads


def warnings_on_request(request: ExecutionConfig, execution: ExecutionConfig) -> list[str]:
    """Notes on requested settings that make this machine slower: more threads than cores, and bf16 on a processor
    without bf16 instructions."""
    if str(execution.device).startswith("cuda"):
        return []
    notes, threads, cores = [], request.threads or 1, len(own_cores())
    if threads > cores:
        waiting = f"{several(threads, 'thread')} on {several(cores, 'core')} keep waiting for each other"
        notes.append(f"{waiting}: --execution.threads {cores} is faster")
    if request.precision == "bf16" and not bf16_on_cpu():
        notes.append("this processor has no bf16 instructions and emulates them: --execution.precision fp32 is faster")
    return notes


def as_plain(execution: ExecutionConfig) -> ExecutionConfig:
    """fp32, contiguous, uncompiled, and the system's allocator in all open fields."""
    return replace(
        execution,
        precision=execution.precision or "fp32",
        memory_format=execution.memory_format or "contiguous",
        compile=execution.compile or "off",
        allocator=execution.allocator or "system",
    )


def without_plan(execution: ExecutionConfig) -> ExecutionConfig:
    """Like `as_plain`, but with the process' usual allocator, which changes no number."""
    return as_plain(replace(execution, allocator=execution.allocator or usual_policy()))


def refuse_impossible_execution(execution: ExecutionConfig) -> None:
    """Raise ConfigError for what the device cannot do, and for what needs a compiler that does not exist here."""
    on_gpu = str(execution.device).startswith("cuda")
    if execution.precision in ("tf32", "fp16") and not on_gpu:
        got, remedy = f"{execution.precision} on {execution.device}", "--execution.precision bf16"
        raise ConfigError("execution.precision", got, "fp32 or bf16; tf32 and fp16 need a GPU", remedy)
    if execution.allocator == "keep" and not available():
        expected = "glibc, whose allocator can keep freed memory"
        raise ConfigError("execution.allocator", "keep", expected, "--execution.allocator system")
    if execution.compile == "cuda-graphs" and not on_gpu:
        got = f"cuda-graphs on {execution.device}"
        raise ConfigError("execution.compile", got, "off or default", "--execution.compile default")
    if execution.compile == "default" and not on_gpu and not has_compiler():
        expected = "a C++ compiler (g++ or clang++) in PATH, which torch.compile needs on a CPU"
        raise ConfigError("execution.compile", "default without a compiler", expected, "--execution.compile off")


def refuse_uncompiled_parts(config: Config) -> None:
    """Raise ConfigError where the requested execution does not fit the rest of the configuration."""
    execution = config.execution
    if config.optim.name == "local-rule" and execution.precision not in (None, "fp32"):
        expected = "fp32: a local learning rule has no gradient to compare"
        raise ConfigError("execution.precision", execution.precision, expected, "--execution.precision fp32")
    if execution.compile in (None, "off"):
        return
    hooked = "auxiliary heads" if config.auxiliary.rotation or config.auxiliary.layers else ""
    hooked = hooked or ("a penalty on hidden units" if config.regularize.penalizes_activations else "")
    if config.optim.name == "local-rule":
        hooked = "a local learning rule"
    if hooked:
        expected = "off: these need the outputs of layers, which compiled code does not give"
        got = f"{execution.compile} with {hooked}"
        raise ConfigError("execution.compile", got, expected, "--execution.compile off")


def has_compiler() -> bool:
    """Whether a C++ compiler is in PATH."""
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def named_device(device: object, where: str, remedy: str) -> torch.device:
    """The device of this name. Raises ConfigError for one that striate cannot use, or that is not on this machine."""
    available = ["cpu"] + [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    name = str(device)
    if ("cuda:0" if name == "cuda" else name) not in available:
        got = f"{name!r}, which PyTorch does not see on this machine"
        raise ConfigError(where, got, " or ".join(available), remedy)
    return torch.device(name)


@contextmanager
def execution_settings(config: Config) -> Iterator[torch.device]:
    """The device, and for the while: the run's threads, allocator and precision of products, its own random state,
    cuDNN's deterministic kernels on a GPU and, with `execution.deterministic`, only deterministic operations. Raises
    TrainingError for an operation without a deterministic form."""
    device = torch.device(config.execution.device or "cpu")
    gpus = [device.index or 0] if device.type == "cuda" else []
    exact = deterministic_operations(config.execution.deterministic)
    with torch.random.fork_rng(devices=gpus), speed_settings(config), exact:
        torch.manual_seed(config.seed)
        yield device


@contextmanager
def speed_settings(config: Config) -> Iterator[None]:
    """For the while: threads, allocator, and how a GPU computes products. The part of `execution_settings` without
    random state."""
    execution, threads = config.execution, torch.get_num_threads()
    products = fp32_products(tf32=execution.precision == "tf32", deterministic=True)
    with allocator_policy(execution.allocator), products:
        try:
            torch.set_num_threads(execution.threads or threads)
            yield
        finally:
            torch.set_num_threads(threads)


def autocast(config: Config, device: torch.device) -> AbstractContextManager[object]:
    """The precision of a forward pass in training: autocast to half precision, or nothing."""
    dtype = dtype_of(config.execution.precision or "fp32")
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def make_scaler(config: Config) -> torch.amp.GradScaler | None:
    """The loss scaler that keeps `fp16` gradients from rounding to 0; None in other precisions."""
    if config.execution.precision != "fp16":
        return None
    return torch.amp.GradScaler(torch.device(config.execution.device or "cpu").type)


def has_maps(module: nn.Module) -> bool:
    """Whether a memory format of images or volumes matters to the network."""
    return any(parameter.ndim in (4, 5) for parameter in module.parameters())


def place(module: nn.Module, config: Config, device: torch.device) -> nn.Module:
    """The network on its device in its memory format, compiled if requested. On the same device, parameters stay the
    same objects, also for an optimizer that has them; the state_dict stays that of the plain network."""
    module = laid_out(module.to(device), config)
    _compile(module, config.execution.compile or "off")
    return module


def laid_out(module: nn.Module, config: Config) -> nn.Module:
    """The same network in the memory format of the configuration, whatever it had before."""
    layout = torch.contiguous_format
    if config.execution.memory_format == "channels_last":
        volumes = any(p.ndim == 5 for p in module.parameters())
        layout = torch.channels_last_3d if volumes else torch.channels_last
    module.to(memory_format=layout)  # type: ignore[call-overload]
    return module


def _compile(module: nn.Module, how: str) -> None:
    """Compile calls of `module` in training, in place, at the first call and for its shape only."""
    if how == "off":
        return
    load_compiler()
    options: dict[str, Any] = {"mode": "reduce-overhead"} if how == "cuda-graphs" else {}

    def whole_network(*inputs: Any, **named: Any) -> Any:
        return module._call_impl(*inputs, **named)

    # Torch limits the compilations per code object: each network gets its own, as sweeps train many in one process.
    whole_network.__code__ = whole_network.__code__.replace()
    # Not `module.compile`: it skips torch's own code, so of a Sequential it compiles some parts, or nothing.
    # One shape only: code for several shapes is slower, and a batch of another size runs uncompiled.
    compiled = torch.compile(whole_network, dynamic=False, **options)

    def call(*inputs: Any, **named: Any) -> Any:
        learns = module.training and torch.is_grad_enabled()  # other calls are too few to compile for
        return (compiled if learns else whole_network)(*inputs, **named)

    module._compiled_call_impl = call


def whole_batch_compiled(config: Config, count: int) -> AbstractContextManager[object]:
    """Around a forward pass of `count` samples in training: whole batches (or parts of `execution.micro_batch`) run
    compiled; any other number of samples runs uncompiled, since it would need another compilation."""
    if config.execution.compile in (None, "off"):
        return nullcontext()
    whole = training_part(config, config.batch or count)
    return nullcontext() if count == whole else uncompiled(config)


def uncompiled(config: Config) -> AbstractContextManager[object]:
    """While open the network runs uncompiled: for evaluation, and for hooks, which compiled code does not call."""
    if config.execution.compile in (None, "off"):
        return nullcontext()
    eager: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return eager


def evaluation_batch(config: Config) -> int:
    """Samples evaluated at once: two batches, since there are no gradients to keep, unless `execution.evaluation_batch`
    or `execution.micro_batch` says how many fit."""
    return config.execution.evaluation_batch or config.execution.micro_batch or 2 * (config.batch or 1)


def measured_at_once(config: Config) -> int | None:
    """Samples evaluated at once after training; None where the run does not know how many fit."""
    return config.execution.evaluation_batch or _last_part(config)


def _last_part(config: Config) -> int | None:
    """`execution.micro_batch` as it is at the end of the run."""
    parts = [samples for _, samples in config.execution.micro_batch_from]
    return parts[-1] if parts else config.execution.micro_batch


def training_part(config: Config, most: int) -> int:
    """Samples that go through the network at once in a training step, at most `most`."""
    whole = config.batch or most
    return min(most, _last_part(config) or whole, -(-whole // (config.execution.batch_parts or 1)))


@contextmanager
def memory_explained(config: Config) -> Iterator[None]:
    """Turn running out of memory into a TrainingError that says what to make smaller."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if not ran_out(error):
            raise
        part = training_part(config, config.batch or 64)
        half = part // 2
        remedy = f"--execution.micro_batch {half} (the same batch in parts), --batch {half}, or a smaller --size"
        raise TrainingError(
            "memory",
            f"not enough for a step: {' '.join(text.split())[:160] or 'MemoryError'}",
            "a network and batch that fit into memory",
            remedy if half else "a smaller --size, or a smaller network",
        ) from None
