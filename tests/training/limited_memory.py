"""A training in a process that may take little more memory than it has: run as a program, prints what happened."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch
from short_runs import asked_for, events_of

from striate.training.events import MemoryRanOut
from striate.training.prepare import prepare


def address_space() -> int:
    """Bytes of this process, as the limit counts them."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def main() -> None:
    """Train a step of 512 images, which needs some 250 MB, in the bytes that are given, then in all there is; print a
    line for each time that memory ran out, and the losses."""
    torch.set_num_threads(1)
    model = "conv(32,3,pad=same) relu conv(32,3,pad=same) relu gap fc(10)"
    fields = {"batch": 512, "model__name": model, "execution__plan": "plain", "execution__threads": 1}
    asked = asked_for("mnist5k", epochs=None, budget__steps=1, augment__shift=0, **fields)
    short, whole = prepare(asked), prepare(asked)
    for prepared, limit in ((short, address_space() + int(sys.argv[1])), (whole, resource.RLIM_INFINITY)):
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        for event in events_of(prepared):
            if isinstance(event, MemoryRanOut):
                print(event.what, event.before, event.samples)
        print("loss", prepared.state.history[0].train["loss"], prepared.state.step)


if __name__ == "__main__":
    main()
