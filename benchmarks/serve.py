"""How many requests a second `striate serve` answers, how late, and what too many do; beside LitServe and FastAPI.

Command: python benchmarks/serve.py [--seconds 20] [--data FOLDER] [--model resnet18 --size 224]

Needs hey (apt-get install hey), and for its row LitServe (pip install litserve). A small network is trained on made
photographs, or on those of FOLDER (or the network that is named), and served three times: by `striate serve`, by
LitServe with batches of the same size and patience, and by a handler of FastAPI that predicts a picture at a time. 64
clients of hey ask for the same JPEG file again and again, each as soon as it was answered; then for 0.7 of the rate
that this gave, spread evenly. Ours is then asked for twice what it can: what does not fit is refused with 429, and its
memory stays. The offline rate is that of the same network and decoder in batches of 64 of the same file, without HTTP.
Server and clients share the cores; it takes 4 minutes and more where --seconds is larger.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import psutil
from common.results import arguments, claim, parsed, write_result

CLIENTS, BATCH, QUEUE = 64, 64, 96
OFFLINE, TAIL, LOAD, FLAT = 0.9, 3.0, 0.7, 1.1
TOKEN = secrets.token_hex(16)
PEERS = Path(__file__).parent / "common" / "serve_peers.py"


@dataclass
class Load:
    """What hey saw: answers a second, milliseconds of those with status 200, and how many had which status; and the
    share of all cores that hey itself took."""

    rate: float
    milliseconds: list[float]
    statuses: dict[str, int]
    generator: float = 0.0
    memory: list[float] = field(default_factory=list)

    def at(self, percent: float) -> float:
        """A percentile of the milliseconds."""
        return float(np.percentile(self.milliseconds, percent)) if self.milliseconds else float("nan")

    def facts(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "answers_per_second": round(self.rate, 1),
            **{f"p{p}_ms": round(self.at(p), 2) for p in (50, 95, 99)},
            "statuses": self.statuses,
            "generator_share": round(self.generator, 3),
            **({"memory_mib": [round(one) for one in self.memory]} if self.memory else {}),
        }


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def served(name: str, run: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a server of this run, once it answers, and its process."""
    port = free_port()
    words = [str(PEERS), name, str(run.absolute()), str(port)]
    if name == "striate":
        words = ["-m", "striate", "serve", str(run), "--port", str(port), "--no-open", "--token", TOKEN]
        words += ["--queue", str(QUEUE)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *words], stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                if process.poll() is not None:
                    said.seek(0)
                    raise RuntimeError(said.read().decode(errors="replace")[-300:])
                try:
                    urllib.request.urlopen(f"{address}/health").close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield address, process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def body(picture: bytes, folder: Path) -> tuple[Path, str]:
    """The picture as a form, which all three take, in a file for hey; and its type."""
    boundary = secrets.token_hex(8)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="a"; filename="a.jpg"\r\n'
    form = head.encode() + b"Content-Type: image/jpeg\r\n\r\n" + picture + f"\r\n--{boundary}--\r\n".encode()
    (folder / "form").write_bytes(form)
    return folder / "form", f"multipart/form-data; boundary={boundary}"


def asked_for(
    address: str, form: tuple[Path, str], seconds: float, clients: int = CLIENTS, rate: float | None = None
) -> Load:
    """hey, for so many seconds: as fast as it is answered, or with so many requests a second."""
    words = ["hey", "-z", f"{seconds:g}s", "-c", str(clients), "-m", "POST", "-o", "csv", "-t", "60"]
    words += ["-D", str(form[0]), "-T", form[1], "-H", f"Authorization: Bearer {TOKEN}"]
    words += ["-q", f"{rate / clients:.4f}"] if rate else []
    started, before = time.monotonic(), os.times()
    done = subprocess.run([*words, f"{address}/predict"], capture_output=True, text=True, check=True)
    taken, after = time.monotonic() - started, os.times()
    own = after.children_user + after.children_system - before.children_user - before.children_system
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    statuses = Counter(row["status-code"] for row in rows)
    times = [1000 * float(row["response-time"]) for row in rows if row["status-code"] == "200"]
    return Load(statuses["200"] / taken, times, dict(statuses), own / taken / (os.cpu_count() or 1))


@contextmanager
def memory_of(process: subprocess.Popen[bytes], into: list[float]) -> Iterator[None]:
    """MiB of the process and its children, four times a second."""
    over = Event()

    def look() -> None:
        own = psutil.Process(process.pid)
        while not over.wait(0.25):
            into.append(sum(one.memory_info().rss for one in [own, *own.children(recursive=True)]) / 2**20)

    watching = Thread(target=look)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def offline_rate(run: Path, picture: bytes, seconds: float) -> float:
    """Pictures a second in batches, decoded by as many threads as the server has, without HTTP; memory is kept and
    threads wait as they do there."""
    from striate.api import load
    from striate.machine.allocator import allocator_policy, keep_by_default, usual_policy
    from striate.machine.waiting import IdleTeam
    from striate.serving.served_run import open_served

    keep_by_default()
    opened = open_served(run, load)
    with (
        ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as decoders,
        ThreadPoolExecutor(1) as next_batch,
        allocator_policy(usual_policy()),
        closing(IdleTeam()) as team,
    ):
        team.set(True)

        def batch() -> list[Any]:
            return list(decoders.map(lambda _: opened.read_picture(picture, "a.jpg"), range(BATCH)))

        opened.predict(batch())
        count, started, ahead = 0, time.monotonic(), next_batch.submit(batch)
        while time.monotonic() - started < seconds:
            now, ahead = ahead.result(), next_batch.submit(batch)
            opened.predict(now)
            count += BATCH
        rate = count / (time.monotonic() - started)
        ahead.result()
    return rate


def made_photographs(folder: Path) -> Path:
    """JPEG files of 400 × 300 pixels of two classes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, color in (("red", (180, 60, 60)), ("blue", (60, 60, 180))):
        (folder / label).mkdir(parents=True)
        for number in range(40):
            rough = np.clip(rng.normal(color, 40, (15, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(rough).resize((400, 300)).save(folder / label / f"{number}.jpg")
    return folder


def trained_run(data: Path, folder: Path, model: str = "small-resnet", size: int = 96) -> Path:
    """A network of this data, hardly trained: the time does not depend on that."""
    import striate

    fixed = {"execution.plan": "plain"}
    return striate.train(data, model, epochs=1, size=size, out=folder / "run", set=fixed).path


def measured(name: str, run: Path, form: tuple[Path, str], seconds: float) -> dict[str, Load]:
    """Of one server: as fast as it goes, at 0.7 of that, and of ours at twice that."""
    with served(name, run) as (address, process):
        asked_for(address, form, min(3.0, seconds))  # warm
        found = {"64 clients": asked_for(address, form, seconds)}
        rate = found["64 clients"].rate
        if not rate:
            raise RuntimeError(f"no answer, but {found['64 clients'].statuses}")
        found["0.7 of it"] = asked_for(address, form, seconds, rate=LOAD * rate)
        if name == "striate":
            memory: list[float] = []
            with memory_of(process, memory):
                found["twice it"] = asked_for(address, form, seconds, clients=3 * CLIENTS, rate=2 * rate)
            found["twice it"].memory = memory
    return found


def judged(offline: float, found: dict[str, dict[str, Load]]) -> dict[str, dict[str, Any]]:
    """What was asked for, and whether it is met."""
    ours = found["striate"]
    share = ours["64 clients"].rate / offline
    tail = ours["0.7 of it"].at(99) / ours["0.7 of it"].at(50)
    over, memory = ours["twice it"], ours["twice it"].memory
    third = max(1, len(memory) // 3)
    growth = float(np.median(memory[-third:]) / np.median(memory[:third]))
    refused = over.statuses.get("429", 0)
    others = {name: loads["64 clients"].rate for name, loads in found.items() if name != "striate"}
    ahead = ", ".join(f"{ours['64 clients'].rate / rate:.2f} × {name}" for name, rate in others.items())
    only = set(over.statuses) <= {"200", "429"}
    return {
        "serve-rate": claim(f"{share:.2f} of the offline rate of {offline:.0f} a second", share >= OFFLINE),
        "serve-tail": claim(f"p99 is {tail:.1f} × p50 at {LOAD:g} of the load", tail <= TAIL),
        "serve-overload": claim(
            f"{refused:,} of {sum(over.statuses.values()):,} refused with 429, memory × {growth:.2f}",
            bool(refused) and only and growth <= FLAT,
        ),
        "serve-peers": claim(ahead or "no peer here", all(ours["64 clients"].rate > rate for rate in others.values())),
    }


def main() -> None:
    """Offline, then each server in turn."""
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--data", type=Path, help="a folder of photographs in classes")
    parser.add_argument("--model", default="small-resnet", help="a network of the zoo, or a layer string")
    parser.add_argument("--size", type=int, default=96, help="pixels of a side of its inputs")
    asked = parsed(parser)
    if shutil.which("hey") is None:
        raise SystemExit("hey is not installed: apt-get install hey")
    seconds = 1.0 if asked.quick else asked.seconds
    found, missing = {}, []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = asked.data or made_photographs(folder / "photographs")
        run, picture = (
            trained_run(data, folder, asked.model, asked.size),
            next(iter(sorted(data.rglob("*.jpg")))).read_bytes(),
        )
        form, offline = body(picture, folder), offline_rate(run, picture, seconds)
        print(f"offline: {offline:.0f} pictures a second", flush=True)
        for name in ("striate", "litserve", "fastapi"):
            try:
                found[name] = measured(name, run, form, seconds)
            except (RuntimeError, urllib.error.URLError, subprocess.CalledProcessError) as error:
                missing.append({"contender": name, "reason": " ".join(str(error).split())[-200:]})
                print(f"{name}: {missing[-1]['reason']}", flush=True)
                continue
            for load, seen in found[name].items():
                print(
                    f"{name:>9} {load:>10}: {seen.rate:7.1f} a second, p50 {seen.at(50):6.1f} ms, "
                    f"p99 {seen.at(99):6.1f} ms, {seen.statuses}, hey {100 * seen.generator:.0f} % of the cores",
                    flush=True,
                )
    if "striate" not in found:
        raise SystemExit("striate serve did not answer")
    rows = [
        {"contender": name, "ours": name == "striate", "loads": {load: one.facts() for load, one in loads.items()}}
        for name, loads in found.items()
    ]
    claims = judged(offline, found)
    if asked.quick:
        claims = {key: one | {"met": None} for key, one in claims.items()}
    for key, one in claims.items():
        print(f"{key}: {one['measured']}: {'met' if one['met'] else 'not judged' if one['met'] is None else 'MISSED'}")
    cases = [{"name": "striate serve", "options": {"seconds": seconds}, "rows": rows, "missing": missing}]
    print(write_result(__file__, asked, cases, about=(__doc__ or "").split("\n\n")[2], claims=claims))


if __name__ == "__main__":
    main()
