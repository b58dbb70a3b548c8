"""The thread that writes: what is over when its work counts as done."""

from __future__ import annotations

import threading

from striate.runs.background import BackgroundWriter


class Held:
    """Stands for the tensors of a checkpoint: notes whether the writer was still at work when it was freed."""

    def __init__(self, writer: BackgroundWriter, freed_at_work: list[bool]) -> None:
        self.writer, self.freed_at_work = writer, freed_at_work

    def __del__(self) -> None:
        self.freed_at_work.append(self.writer.busy)


def test_what_a_job_held_is_freed_before_it_counts_as_done() -> None:
    # Tensors that a thread frees while the interpreter ends abort the program.
    freed_at_work: list[bool] = []
    for _ in range(20):
        writer, let_go = BackgroundWriter(), threading.Event()

        def job(held: Held = Held(writer, freed_at_work), let_go: threading.Event = let_go) -> None:  # noqa: B008
            let_go.wait()

        writer.submit(job)
        del job  # from here on only the thread holds it
        let_go.set()
        writer.wait()
    assert freed_at_work == [True] * 20
