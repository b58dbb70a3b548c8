"""A server on this machine that speaks the part of the Hugging Face hub's API by which repositories are fetched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TIMM = {
    "architecture": "resnet18",
    "num_classes": 1000,
    "pretrained_cfg": {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.3],
        "input_size": [3, 64, 96],
        "license": "apache-2.0",
    },
}


class _Hub(BaseHTTPRequestHandler):
    root = Path()
    seen: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.seen.append(path)
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repository = self.root.joinpath(*(parts[2:4] if api else parts[:2]))
        if "gated" in path:
            return self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if not repository.is_dir():
            return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if api and parts[4] == "revision":
            if parts[5] not in ("main", COMMIT):
                return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            about = {"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": [], "tags": []}
            return self._answer(200, json.dumps(about).encode(), {})
        if api:
            return self._answer(200, json.dumps([_entry(file) for file in repository.iterdir()]).encode(), {})
        entry = _entry(repository / parts[-1])
        sums = {"X-Repo-Commit": COMMIT, "ETag": f'"{entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]}"'}
        return self._answer(200, (repository / parts[-1]).read_bytes(), sums)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _entry(file: Path) -> dict[str, object]:
    content = file.read_bytes()
    found = {"type": "file", "path": file.name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return found | ({"lfs": large} if file.suffix == ".safetensors" else {})


@contextmanager
def hub_of(root: Path) -> Iterator[str]:
    """The address of a hub whose repositories are the folders owner/name below `root`."""
    handler = type("Hub", (_Hub,), {"root": root, "seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
