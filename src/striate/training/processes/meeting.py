"""How the processes of one training find one another, begin together, and end together when one of them fails."""

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

from striate.errors import SaidElsewhere, StriateError, TrainingError, pasted
from striate.machine.cache import cache_folder
from striate.machine.load import own_cores
from striate.training.config import Config
from striate.training.processes.group import ALONE, Processes
from striate.training.processes.launch import Launch
from striate.training.processes.sharding import shard, unshard
from striate.training.state import TrainingState

_NUMBERS = count()
_LOOK_EVERY = 0.1  # seconds between two looks at what the others say
_OLD = 7 * 86_400.0  # seconds after which a file that killed processes have left is removed


@dataclass(frozen=True)
class Meeting:
    """What the processes tell one another outside of training steps: texts under names, which a store keeps.

    Without a `store` there is one process, which tells nobody anything.
    """

    launch: Launch
    store: Store | None = None

    @property
    def follows(self) -> bool:
        """Whether this process does what the first one has decided."""
        return self.launch.rank > 0

    def tell(self, name: str, text: str) -> None:
        """Give the others a text."""
        if self.store is not None:
            self.store.set(name, text)

    def hear(self, *names: str) -> str:
        """Wait for the first of these texts, however long that takes. Raises SaidElsewhere when a process has failed
        meanwhile."""
        assert self.store is not None, "one process hears nothing"
        while True:
            for name in names:
                if self.store.check([name]):
                    text: str = self.store.get(name).decode()
                    return text
            if self.store.check(["failed"]):
                raise SaidElsewhere()
            time.sleep(_LOOK_EVERY)

    def fails_first(self) -> bool:
        """Whether no other process has failed yet: the first to fail says why."""
        try:
            return self.store is None or self.store.add("failed", 1) == 1
        except RuntimeError:  # it was kept by a process that is gone
            return False

    @contextmanager
    def together(self, state: TrainingState, config: Config, run: Path) -> Iterator[Processes]:
        """The processes, once all have come so far, all with the first one's `state`, to train `run`; the network is
        spread over them meanwhile where the configuration says so. Raises TrainingError when another one is gone."""
        if self.store is None:
            yield ALONE
            return
        launch, spread = self.launch, config.execution.fsdp
        self.tell(f"ready {launch.rank}", "")
        for rank in range(launch.count):
            self.hear(f"ready {rank}")
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, store=self.store, rank=launch.rank, world_size=launch.count)
        try:
            _share(state, launch.rank)
            plain = shard(state, config, launch.count) if spread else None
            yield Processes(launch.rank, launch.count, spread)
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
    """The launcher's store. Kept to the end of the program: where the first process serves it, others may still ask."""
    store: Store = next(iter(rendezvous("env://", launch.rank, launch.count)))[0]
    return store


@cache
def _common_store(launch: Launch) -> Store:
    """Where processes leave texts for one another: the launcher's store, which listens to the network; where all are on
    one machine, a file that is this user's, whose name is all that the launcher's store is asked for."""
    store, cache_of_user = _launchers_store(launch), cache_folder()
    on_this_machine = os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]  # other launchers may not say
    if not on_this_machine or cache_of_user is None:
        return store
    folder, name = cache_of_user / "processes", f"striate file {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if launch.rank == 0:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for old in folder.iterdir():
            with suppress(OSError):  # another training may be doing the same
                if time.time() - old.stat().st_mtime > _OLD:
                    old.unlink()
        handle, path = tempfile.mkstemp(dir=folder)
        os.close(handle)
        store.set(name, Path(path).name)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
    return FileStore(str(folder / Path(store.get(name).decode()).name), launch.count)


def _loopback() -> str:
    """The name of the network interface that leads to this machine alone."""
    return next(name for name, known in net_if_addrs().items() if any(one.address == "127.0.0.1" for one in known))


@contextmanager
def met(launch: Launch) -> Iterator[Meeting]:
    """The processes of this launch. While open each has its GPU, or its share of the cores, and of the errors that
    leave this in several processes only the first is raised as it is; SaidElsewhere in all others."""
    if not launch.several:
        yield Meeting(launch)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, len(own_cores()) // launch.local_count))
    if torch.cuda.is_available():
        torch.cuda.set_device(launch.local_rank)
    # What one training tells is not to be heard by the next of the same program.
    meeting = Meeting(launch, PrefixStore(f"striate {next(_NUMBERS)}", _common_store(launch)))
    try:
        yield meeting
    except SaidElsewhere:
        raise
    except Exception as error:
        if not meeting.fails_first():
            raise SaidElsewhere() from error
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
    """Raise TrainingError where another process of this machine has ended: the launcher then interrupts all others,
    which may wait for one another before the first step, where nothing else tells them."""
    if not launch.several or "TORCHELASTIC_RUN_ID" not in os.environ:  # what others start need not be one's siblings
        return
    alive = 0
    for one in Process(os.getppid()).children():
        with suppress(NoSuchProcess):
            alive += one.status() != STATUS_ZOMBIE
    if alive < launch.local_count:
        raise _process_lost(launch, run)


def _lost(error: Exception) -> bool:
    """Whether it says that a process is gone, or does not answer."""
    if isinstance(error, distributed.DistError):
        return True
    words = ("gloo", "Connection closed", "Connection reset", "Broken pipe", "NCCL")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _share(state: TrainingState, rank: int) -> None:
    """Give all processes the state of the first."""
    content: list[bytes | None] = [None]
    if rank == 0:
        buffer = io.BytesIO()
        torch.save(state.to_dict(), buffer)
        content = [buffer.getvalue()]
    distributed.broadcast_object_list(content, device=torch.device("cpu"))
    if rank and content[0] is not None:
        device = next(state.module.parameters()).device
        state.restore(torch.load(io.BytesIO(content[0]), map_location=device, weights_only=True))
