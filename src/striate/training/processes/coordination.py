"""How the processes of one training find each other, begin together, and end together when one fails."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import torch
from psutil import STATUS_ZOMBIE, NoSuchProcess, Process, net_if_addrs
from torch import distributed
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from striate.errors import OtherProcessFailed, StriateError, TrainingError, pasted
from striate.machine.cache import cache_folder
from striate.machine.load import own_cores
from striate.training.config import Config
from striate.training.processes.group import ALONE, Processes
from striate.training.processes.launch import Launch
from striate.training.processes.sharding import shard, unshard
from striate.training.state import TrainingState

_NUMBERS = count()
_POLL_SECONDS = 0.1  # between two reads of the store
_OLD = 7 * 86_400.0  # seconds after which files of killed processes are removed


@dataclass(frozen=True)
class Coordinator:
    """What the processes exchange outside of training steps: texts by name, in a store. A single process has no store
    and exchanges nothing."""

    launch: Launch
    """This process and the number of processes."""
    store: Store | None = None
    """Holds the texts. None: a single process."""

    @property
    def is_follower(self) -> bool:
        """Whether this process follows the decisions of the first one."""
        return self.launch.rank > 0

    def publish(self, name: str, text: str) -> None:
        """Store a text for the other processes."""
        if self.store is not None:
            self.store.set(name, text)

    def wait_for(self, *names: str) -> str:
        """Wait for the first of these texts, without a limit. Raises OtherProcessFailed where a process has failed."""
        assert self.store is not None, "a single process waits for nothing"
        while True:
            for name in names:
                if self.store.check([name]):
                    text: str = self.store.get(name).decode()
                    return text
            if self.store.check(["failed"]):
                raise OtherProcessFailed()
            time.sleep(_POLL_SECONDS)

    def is_first_failure(self) -> bool:
        """Whether no other process has failed before: only the first failure is reported."""
        try:
            return self.store is None or self.store.add("failed", 1) == 1
        except RuntimeError:  # the process that served the store has ended
            return False

    @contextmanager
    def process_group(self, state: TrainingState, config: Config, run: Path) -> Iterator[Processes]:
        """The processes, once all have arrived here, all with the `state` of the first one, to train `run`. Where the
        configuration says so, the network is sharded over them meanwhile. Raises TrainingError where another process
        has ended."""
        if self.store is None:
            yield ALONE
            return
        launch, sharded = self.launch, config.execution.fsdp
        self.publish(f"ready {launch.rank}", "")
        for rank in range(launch.count):
            self.wait_for(f"ready {rank}")
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, store=self.store, rank=launch.rank, world_size=launch.count)
        try:
            _share(state, launch.rank)
            plain = shard(state, config, launch.count) if sharded else None
            yield Processes(launch.rank, launch.count, sharded)
            if plain is not None:
                unshard(state, plain)
        except RuntimeError as error:
            if not _lost(error):
                raise
            raise _process_lost(launch, run) from error
        finally:
            distributed.destroy_process_group()


@cache
def _launchers_store(launch: Launch) -> Store:
    """The launcher's store. It stays open to the end of the program: if the first process serves it, others may still
    read."""
    store: Store = next(iter(rendezvous("env://", launch.rank, launch.count)))[0]
    return store


@cache
def _common_store(launch: Launch) -> Store:
    """The store of the texts: that of the launcher, which listens to the network. Where all processes are on one
    machine, a file of this user, whose name is all that the launcher's store holds."""
    store, cache_of_user = _launchers_store(launch), cache_folder()
    on_this_machine = os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]  # not set by every launcher
    if not on_this_machine or cache_of_user is None:
        return store
    folder, name = cache_of_user / "processes", f"striate file {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if launch.rank == 0:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for old in folder.iterdir():
            with suppress(OSError):  # another training may remove it too
                if time.time() - old.stat().st_mtime > _OLD:
                    old.unlink()
        handle, path = tempfile.mkstemp(dir=folder)
        os.close(handle)
        store.set(name, Path(path).name)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
    return FileStore(str(folder / Path(store.get(name).decode()).name), launch.count)


def _loopback() -> str:
    """The name of the network interface that leads only to this machine."""
    return next(name for name, known in net_if_addrs().items() if any(one.address == "127.0.0.1" for one in known))


@contextmanager
def coordinated(launch: Launch) -> Iterator[Coordinator]:
    """The processes of this launch. While open, each has its GPU, or its share of the cores. Of the errors that leave
    this in several processes, only the first is raised; all others become OtherProcessFailed."""
    if not launch.several:
        yield Coordinator(launch)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, len(own_cores()) // launch.local_count))
    if torch.cuda.is_available():
        torch.cuda.set_device(launch.local_rank)
    # A prefix keeps the texts of one training from the next in the same program.
    coordinator = Coordinator(launch, PrefixStore(f"striate {next(_NUMBERS)}", _common_store(launch)))
    try:
        yield coordinator
    except OtherProcessFailed:
        raise
    except Exception as error:
        if not coordinator.is_first_failure():
            raise OtherProcessFailed() from error
        if isinstance(error, StriateError):
            error.process = launch.rank
        raise
    finally:
        torch.set_num_threads(threads)


def _process_lost(launch: Launch, run: Path) -> TrainingError:
    return TrainingError(
        f"training in {launch.count} processes",
        "a process ended or stopped responding",
        "all processes until the end",
        "see its message above, or dmesg if the system ended it; to continue with any number of processes:"
        f" torchrun --nproc_per_node={launch.count} --no-python striate train --resume {pasted(run)}",
    )


def refuse_lost_process(launch: Launch, run: Path) -> None:
    """Raise TrainingError where another process of this machine has ended. The launcher then interrupts all others,
    which may wait for one another before the first step and would not notice."""
    if not launch.several or "TORCHELASTIC_RUN_ID" not in os.environ:  # other launchers may start unrelated children
        return
    alive = 0
    for one in Process(os.getppid()).children():
        with suppress(NoSuchProcess):
            alive += one.status() != STATUS_ZOMBIE
    if alive < launch.local_count:
        raise _process_lost(launch, run)


def _lost(error: Exception) -> bool:
    """Whether the error means that a process has ended or does not respond."""
    if isinstance(error, distributed.DistError):
        return True
    words = ("gloo", "Connection closed", "Connection reset", "Broken pipe", "NCCL")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _share(state: TrainingState, rank: int) -> None:
    """Give all processes the state of the first one."""
    content: list[bytes | None] = [None]
    if rank == 0:
        buffer = io.BytesIO()
        torch.save(state.to_dict(), buffer)
        content = [buffer.getvalue()]
    distributed.broadcast_object_list(content, device=torch.device("cpu"))
    if rank and content[0] is not None:
        device = next(state.module.parameters()).device
        state.restore(torch.load(io.BytesIO(content[0]), map_location=device, weights_only=True))
