"""A program that lets a training live and die: forked from one process that has everything loaded, killed without
warning at instants that it is told, and gone on with by `striate train --resume`.

Called with one JSON document: `words` of the first life, the `run` directory, and the `deaths`, a list of
`["anywhere", n, seconds after the n-th step]`, `["writing", n, seconds after the n-th piece of checkpoints]` or
`["renaming", n, 0]`: between the two renames of the n-th checkpoint. Prints how each life ended, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

SLOW = 0.0002  # seconds for each piece of a checkpoint, of some hundred, so that kills meet one that is being written


def life(words: list[str], run: Path, say: Callable[[str], None]) -> int:
    """One process of a training, which says when it begins a step, a checkpoint, and the second rename."""
    from striate.cli import main
    from striate.machine.second_process import Later
    from striate.report import finish
    from striate.runs import checkpoint
    from striate.training import saving, setup

    original, write_piece, replace = setup.batches, checkpoint.write_piece, os.replace

    def batches(*arguments: Any, **options: Any) -> Iterator[Any]:
        for number, batch in enumerate(original(*arguments, **options), options.get("first", 0)):
            if "order" in options:  # of training, not of validation
                digest = hashlib.sha256(batch.ids.numpy().tobytes()).hexdigest()[:12]
                with run.with_name(f"{run.name}-order.txt").open("a") as file:
                    file.write(f"{options['order'][:4].tolist()} {number} {digest}\n")
                say("s")
            yield batch

    def slow_piece(file: Any, piece: bytes) -> None:
        say("w")
        time.sleep(SLOW)
        write_piece(file, piece)

    def slow_replace(path: str, target: str, **folders: int) -> None:
        replace(path, target, **folders)
        if target == "previous.pt":
            say("r")
            time.sleep(50 * SLOW)

    setup.batches, checkpoint.write_piece, os.replace = batches, slow_piece, slow_replace
    finish._sample_pictures = lambda *_: Later(tuple, (), None)
    saving.SHARE = 1e9  # slow as they are, hardly a checkpoint would be written
    return main(words)


def live(words: list[str], run: Path, death: list[Any] | None) -> str:
    """Let one life run, and end it as `death` says; how it ended."""
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hear)
        os.set_blocking(tell, False)
        code = 99
        try:
            code = life(words, run, lambda word: _tell(tell, word))
        finally:
            os._exit(code)
    os.close(tell)
    if death is not None and _heard(hear, {"anywhere": "s", "writing": "w", "renaming": "r"}[death[0]], death[1]):
        time.sleep(death[2])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(hear)
    return f"killed {death[0]}" if os.WIFSIGNALED(status) else f"ended {os.waitstatus_to_exitcode(status)}"


def _tell(pipe: int, word: str) -> None:
    with suppress(BlockingIOError, BrokenPipeError):
        os.write(pipe, word.encode())


def _heard(pipe: int, word: str, times: int) -> bool:
    """Whether the word comes so often before the process ends."""
    while times > 0:
        heard = os.read(pipe, 4096)
        if not heard:
            return False
        times -= heard.decode().count(word)
    return True


def main() -> None:
    asked = json.loads(sys.argv[1])
    run = Path(asked["run"])
    import striate.api.training
    import striate.report.finish  # noqa: F401 - so that no life has to load it

    ends, words = [], asked["words"]
    for death in [*asked["deaths"], None]:
        ends.append(live(words, run, death))
        if (run / "config.yaml").exists():
            words = ["train", "--resume", str(run)]
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
