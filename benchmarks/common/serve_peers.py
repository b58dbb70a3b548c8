"""What else puts a trained network behind HTTP: `python serve_peers.py litserve|fastapi RUN PORT`.

Both predict with the same network, prepared in the same way, and answer the label; each is written as its documentation
shows it. FastAPI's handler predicts one picture at a time, in its pool of threads; LitServe makes batches.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    import litserve as ls
except ImportError:
    ls = None

BATCH, PATIENCE = 64, 0.002  # as striate has them


class Network:
    """A run, and the predictions for the bytes of pictures."""

    def __init__(self, run: str) -> None:
        import striate

        self.trained = striate.load(run)

    def read(self, data: bytes) -> Any:
        """The input of a picture."""
        from striate.data.media.every_medium import medium_of

        return medium_of(self.trained.preparation.kind).decode(data, "picture", self.trained.preparation)

    def labels(self, inputs: list[Any]) -> list[str]:
        """Of a batch."""
        return [found.label for found in self.trained.predict_prepared(inputs, BATCH, plan="plain")]


class API(ls.LitAPI if ls else object):  # type: ignore[misc]
    """LitServe's own form; its worker is another process, which makes the network anew."""

    run = ""

    def setup(self, device: str) -> None:
        del device
        self.network = Network(self.run)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # an annotation would be a field of the query
        return self.network.read(request["a"].file.read())

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, batch: Any) -> list[str]:
        return self.network.labels(list(batch))

    def unbatch(self, output: list[str]) -> list[str]:
        return output

    def encode_response(self, output: str) -> dict[str, str]:
        return {"label": output}


def litserve(run: str, port: int) -> None:
    """Batches of up to 64, which wait two milliseconds."""
    if ls is None:
        raise SystemExit("litserve is not installed: pip install litserve")
    api = API(max_batch_size=BATCH, batch_timeout=PATIENCE)
    api.run = run
    server = ls.LitServer(api, accelerator="cpu")
    server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="critical")


def fastapi(run: str, port: int) -> None:
    """A handler, as everyone writes it."""
    import uvicorn
    from fastapi import FastAPI, UploadFile

    app, network = FastAPI(), Network(run)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {}

    def predict(a: UploadFile) -> dict[str, str]:
        return {"label": network.labels([network.read(a.file.read())])[0]}

    predict.__annotations__["a"] = UploadFile
    app.post("/predict")(predict)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical")


if __name__ == "__main__":
    import os

    os.chdir(tempfile.mkdtemp())
    {"litserve": litserve, "fastapi": fastapi}[sys.argv[1]](str(Path(sys.argv[2])), int(sys.argv[3]))
