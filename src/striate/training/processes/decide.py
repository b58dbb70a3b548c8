"""The configuration of a training in several processes."""

from __future__ import annotations

from dataclasses import replace

from striate.errors import ConfigError, pasted
from striate.training.config import Config
from striate.training.deterministic import parts_of_batch
from striate.training.processes.launch import Launch
from striate.wording import several


def among_processes(config: Config, launch: Launch) -> Config:
    """The configuration of a run of `launch.count` processes. Raises ConfigError for what needs a single process."""
    execution, several = config.execution, f"with {launch.count} processes"
    if not launch.several:
        if execution.fsdp:
            expected = "several processes, over which the network is sharded"
            remedy = f"torchrun --nproc_per_node=2 --no-python striate train {pasted(config.data.source)} --fsdp"
            raise ConfigError("execution.fsdp", "true in one process", expected, remedy)
        return replace(config, execution=replace(execution, processes=None))
    if config.budget.minutes is not None and config.budget.steps is None:
        got = f"{config.budget.minutes:g} {several}, whose common speed is not known before they start"
        raise ConfigError("budget.minutes", got, "a number of epochs", "--epochs 10")
    if config.cv is not None:
        remedy = f"without torchrun: striate train {pasted(config.data.source)} --cv {config.cv}"
        raise ConfigError("cv", f"{config.cv} {several}", "one training", remedy)
    if execution.compile not in (None, "off"):
        raise ConfigError("execution.compile", f"{execution.compile} {several}", "off", "--execution.compile off")
    if execution.device not in (None, "cpu", "cuda"):
        expected = "cuda, where each process takes its own GPU, or cpu"
        raise ConfigError("execution.device", f"{execution.device} {several}", expected, "--execution.device cuda")
    if execution.deterministic and 1 < parts_of_batch(execution) < launch.count:
        got, expected = f"{parts_of_batch(execution)} {several}", "at least as many parts of a batch as processes"
        raise ConfigError("execution.batch_parts", got, expected, f"--execution.batch_parts {launch.count}")
    execution = replace(execution, processes=launch.count, compile="off")
    if execution.fsdp:
        memory_format = execution.memory_format or "contiguous"
        execution = replace(execution, plan="plain", memory_format=memory_format)
    config = replace(config, execution=execution)
    refuse_undivided(config)
    return config


def refuse_undivided(config: Config) -> None:
    """Raise ConfigError for what several processes cannot divide: a rule that learns from sample after sample, and,
    with a sharded network, whatever needs the whole network."""
    execution, optim = config.execution, config.optim
    if execution.fsdp:
        whole = {
            "optim.name": (optim.name not in (None, "sgd", "adamw"), optim.name, "sgd or adamw", "adamw"),
            "optim.ema": (bool(optim.ema), optim.ema, "0", "0"),
            "execution.batch_parts": ((execution.batch_parts or 1) > 1, execution.batch_parts, "1", "1"),
            "execution.memory_format": (execution.memory_format == "channels_last", "channels_last", "contiguous", ""),
            "execution.precision": (execution.precision == "fp16", "fp16", "fp32, tf32 or bf16", "bf16"),
            "auxiliary.rotation": (bool(config.auxiliary.rotation), config.auxiliary.rotation, "0", "0"),
            "auxiliary.layers": (bool(config.auxiliary.layers), config.auxiliary.layers, "none", "[]"),
            "fine_tune.head_share": (bool(config.fine_tune.head_share), config.fine_tune.head_share, "0", "0"),
        }
        for name, (bad, got, expected, value) in whole.items():
            if bad:
                raise ConfigError(name, f"{got} with --fsdp", expected, f"--{name} {value or expected}")
    if config.optim.name == "local-rule" and config.execution.processes:
        raise ConfigError(
            "optim.name",
            f"local-rule with {several(config.execution.processes, 'process', 'processes')}",
            "one process, since such a rule learns from one sample after another",
            "striate train, without torchrun",
        )


def resumed_among(config: Config, launch: Launch) -> tuple[Config, str]:
    """The configuration of a run that is resumed in `launch.count` processes, with the threads divided anew; and a note
    where the number of processes has changed."""
    before, now = config.execution.processes or 1, launch.count
    if before == now:
        return config, ""
    execution = config.execution
    same = (execution.batch_parts or 1) > 1
    threads = execution.threads if same else max(1, (execution.threads or 1) * before // now)
    device = execution.device
    if now > 1 and str(device).startswith("cuda"):
        device = "cuda"
    execution = replace(execution, threads=threads, device=device, compile="off", fsdp=execution.fsdp and now > 1)
    config = replace(config, execution=execution)
    bits = "the same bits" if same else "weights that are equal up to rounding, not bit for bit"
    changed = f"started with {_processes(before)}, continued with {_processes(now)}"
    note = f"{changed}: the same samples in the same order, and {bits}"
    return among_processes(config, launch), note


def _processes(number: int) -> str:
    return f"{number} process{'es' * (number > 1)}"
