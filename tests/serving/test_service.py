"""A served network answers what `striate predict --json` prints, to who may ask, and no more than it can."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

import striate
from striate.cli import main
from striate.errors import RunError, UsageError
from striate.exporting.exported_file import ExportedFile, _File
from striate.exporting.exported_network import ExportedNetwork
from striate.serving import access
from striate.serving import service as serving
from striate.serving.application import make_application
from striate.serving.server import Server, listen
from striate.serving.service import Limits, Service

TOKEN = "a-token-of-tests"


def picture(seed: int = 0, size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "digits"
    assert main(["train", "digits", "--model", "conv(4,3) relu gap fc(10)", "--epochs", "1", "--out", str(out)]) == 0
    return out


def client_of(service: Service, host: str = "127.0.0.1") -> TestClient:
    app = make_application(service, TOKEN, host)
    return TestClient(app, "http://127.0.0.1:8000", headers={"authorization": f"Bearer {TOKEN}"})


@pytest.fixture
def client(run: Path) -> Iterator[TestClient]:
    with client_of(Service([run], striate.load, Limits(largest=1 << 20))) as opened:
        yield opened


def test_the_answer_is_the_line_of_predict(client: TestClient, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for seed, size in enumerate([(8, 8), (30, 20)]):
        Path(f"{seed}.png").write_bytes(picture(seed, size))
        lines.append(client.post(f"/predict?name={seed}.png", content=picture(seed, size)).json())
    capsys.readouterr()
    assert main(["predict", str(run), "0.png", "1.png", "--json"]) == 0
    for line, printed in zip(lines, map(json.loads, capsys.readouterr().out.splitlines()), strict=True):
        assert (line.keys(), line["path"], line["label"]) == (printed.keys(), printed["path"], printed["label"])
        assert line["probability"] == pytest.approx(printed["probability"], abs=1e-6)  # of another batch


def test_several_pictures_go_as_multipart_and_one_that_is_none_is_named(client: TestClient) -> None:
    files = [("a", ("a.png", picture(1))), ("b", ("b.png", b"no picture")), ("c", ("c.png", picture(2)))]
    first, wrong, last = client.post("/predict", files=files).json()
    assert (first["path"], wrong["path"], last["path"]) == ("a.png", "b.png", "c.png")
    assert first["label"] == client.post("/predict?name=a.png", content=picture(1)).json()["label"]
    assert "not a picture" in wrong["error"]
    alone = client.post("/predict", content=b"no picture")
    assert (alone.status_code, set(alone.json())) == (422, {"path", "error"})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer another-token"}, 401),
        ({"host": "evil.example"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"content-length": "9999999999999"}, 413),
    ],
)
def test_who_may_not_ask_is_refused(client: TestClient, headers: dict[str, str], status: int) -> None:
    answer = client.post("/predict", content=picture(), headers=headers)
    assert (answer.status_code, set(answer.json()["error"])) == (status, {"where", "got", "expected", "remedy"})


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("path", ["/runs", "/metrics", "/openapi.json", "/predict", "/anything"])
def test_without_a_token_nothing_of_a_run_is_shown(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"authorization": ""}).status_code == 401
    assert client.get("/health", headers={"authorization": ""}).json()["status"] == "ok"
    page = client.get("/", headers={"authorization": ""})
    assert TOKEN not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_body_that_is_too_large_ends_wherever_its_length_is_not_told(client: TestClient) -> None:
    answer = client.post("/predict", content=iter([b"x" * 600_000] * 3))
    assert answer.status_code == 413


def test_a_body_that_does_not_go_on_is_not_waited_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_PATIENCE", 0.01)
    application, sent = make_application(Service([run], striate.load, Limits()), TOKEN, "127.0.0.1"), []

    async def ask() -> None:
        async def receive() -> dict[str, Any]:
            return await asyncio.Future()

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {TOKEN}".encode())]
        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
        await application(scope | {"root_path": "", "scheme": "http", "http_version": "1.1"}, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == 408


@pytest.mark.parametrize(
    ("query", "got", "remedy"),
    [("rum=a%20b", "the parameter rum", "?run=a%20b"), ("run=a&run=b", "run twice", "leave out one of them")],
)
def test_parameters_that_are_unknown_or_said_twice_are_refused(
    client: TestClient, query: str, got: str, remedy: str
) -> None:
    answer = client.post(f"/predict?{query}", content=picture())
    error = answer.json()["error"]
    assert (answer.status_code, error["got"], error["remedy"]) == (400, got, remedy)


@pytest.mark.parametrize(
    ("method", "path", "status", "expected"),
    [
        ("GET", "/predict", 405, "POST /predict"),
        ("PUT", "/health", 405, "GET /health"),
        ("GET", "/nope", 404, "one of /predict, /health, /runs, /metrics, /openapi.json, /"),
        ("GET", "/static/nope", 404, "one of /predict, /health, /runs, /metrics, /openapi.json, /"),
    ],
)
def test_other_addresses_and_methods_are_refused_in_the_same_form(
    client: TestClient, method: str, path: str, status: int, expected: str
) -> None:
    answer = client.request(method, path)
    error = answer.json()["error"]
    assert (answer.status_code, error["got"], error["expected"]) == (status, f"{method} {path}", expected)
    assert set(error) == {"where", "got", "expected", "remedy"}
    assert ("allow" in answer.headers) == (status == 405)


def test_names_turn_no_writing_round(client: TestClient) -> None:
    name = "a%0ab%1b%5b31m%E2%80%AEx.png"
    for path in (f"/predict?name={name}", f"/predict?run={name}"):
        answer = client.post(path, content=picture())
        assert "\\u202e" in answer.text
        assert answer.text.isprintable()


def test_programs_read_what_to_send_and_what_comes_back(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    post, paths = document["paths"]["/predict"]["post"], document["paths"]
    assert [parameter["name"] for parameter in post["parameters"]] == ["run", "name"]
    assert all(parameter["description"] for parameter in post["parameters"])
    assert set(post["responses"]) == {"200", "400", "401", "403", "404", "408", "413", "422", "429"}
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert (document["security"], paths["/health"]["get"]["security"]) == ([{"token": []}], [])
    assert set(paths["/metrics"]["get"]["responses"]["200"]["content"]) == {"text/plain"}


@pytest.mark.parametrize("sent", [b"[", b"{}", b'{"inputs": 3}', b'{"inputs": []}', b"[" * 100_000])
def test_json_that_is_no_list_of_inputs_is_refused(client: TestClient, sent: bytes) -> None:
    answer = client.post("/predict", content=sent, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["where"]) == (400, "the request")


def test_numbers_go_as_json(client: TestClient, run: Path) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    (line,) = client.post("/predict", json={"inputs": [raw.tolist()]}).json()
    assert line == {"path": "input#0", **striate.load(run).predict(raw).fields}
    for given in ([[1, 2]], [3], [["a", 1], [2, 3]]):
        (wrong,) = client.post("/predict", json={"inputs": [given]}).json()
        assert "(1, 8, 8)" in wrong["error"]
    (wrong,) = client.post("/predict", json={"inputs": [[[1]]]}).json()
    assert "or the bytes of a file without JSON" in wrong["error"]
    for none in ("5", True, None):
        (wrong,) = client.post("/predict", json={"inputs": [[*raw.tolist()[:7], [none] * 8]]}).json()
        assert "values that are not numbers" in wrong["error"]


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "iris"
    return striate.train("iris", "mlp(8)", epochs=1, out=out, set={"execution.plan": "plain"}).path


def exported_as_it_is(path: Path) -> ExportedFile:
    """As a file's runtime computes it, which has an answer for everything."""
    of = striate.load(path)
    network = ExportedNetwork(of)
    module = _File(path, lambda batch: [part.numpy() for part in network(torch.from_numpy(batch))])
    return ExportedFile(module, of.task, of.preparation, of.normalization, of.classes, of.device, of.views)


def test_bytes_for_a_network_of_tables_are_refused_with_what_to_send(table_run: Path) -> None:
    with client_of(Service([table_run], striate.load, Limits())) as client:
        refused = client.post("/predict", content=b"5.1,3.5,1.4,0.2")
        flat = client.post("/predict", json={"inputs": [5.1, 3.5, 1.4, 0.2]})
    assert (flat.status_code, flat.json()["error"]["remedy"]) == (400, 'send {"inputs": [[…]]}')
    assert flat.json()["error"]["expected"].endswith("each a list of numbers of shape (4,)")
    assert refused.status_code == 422
    assert refused.json()["error"].endswith('expected: numbers of shape (4,), as JSON: {"inputs": [one, …]}')


@pytest.mark.parametrize("load", [striate.load, exported_as_it_is])
@pytest.mark.parametrize("number", ["NaN", "1" + 400 * "0", "1e400", "1e39", "3e38"])
def test_an_input_that_is_not_finite_fails_alone(table_run: Path, load: Any, number: str) -> None:
    sent = f'{{"inputs": [[5.1, 3.5, 1.4, 0.2], [{number}, 1, 1, 1]]}}'.encode()
    with client_of(Service([table_run], load, Limits())) as client:
        right, wrong = client.post("/predict", content=sent, headers={"content-type": "application/json"}).json()
    assert 0 < right["probability"] <= 1
    assert set(wrong) == {"path", "error"}
    assert "NaN or Inf" in wrong["error"]


def test_a_full_queue_says_when_to_come_again_and_requests_are_computed_together(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    original = serving.ServedRun.predict

    def slow(self: Any, pictures: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return original(self, pictures)

    monkeypatch.setattr(serving.ServedRun, "predict", slow)
    service, answers = Service([run], striate.load, Limits(queue=3)), []
    with client_of(service) as client:

        def ask(seed: int) -> None:
            answers.append(client.post("/predict", content=picture(seed)))

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
        threads[0].start()
        assert begun.wait(60)
        for thread in threads[1:]:
            thread.start()
        for _ in range(10_000):
            if "striate_waiting 3.0" in client.get("/metrics").text:
                break
            sleep(0.005)
        refused = client.post("/predict", content=picture(9))
        go.set()
        for thread in threads:
            thread.join()
        counts = client.get("/metrics").text
        never = client.post("/predict", json={"inputs": [[0]] * 4})
    assert (never.status_code, never.json()["error"]["expected"]) == (400, "at most 3, the size of the queue")
    assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (429, True)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert "striate_batch_size_sum 3.0" in counts
    assert "striate_batch_size_count 2.0" in counts
    assert 'striate_requests_total{status="429"} 1.0' in counts


def until(said: list[str], count: int, holds: Callable[[], bool]) -> None:
    """Ask until so much was said; what `holds` is true each time."""
    for _ in range(2000):
        assert holds()
        if len(said) >= count:
            return
        sleep(0.01)
    raise AssertionError(said)


def test_runs_have_names_and_newer_weights_are_taken(
    run: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, "first")
    shutil.copytree(run, "second")
    monkeypatch.setattr(serving, "_RELOAD_SECONDS", 0.01)
    said: list[str] = []
    with client_of(Service([Path("first"), Path("second")], striate.load, Limits(), said.append)) as client:
        assert [one["run"] for one in client.get("/runs").json()] == ["first", "second"]
        refused = client.post("/predict?run=second.pt", content=picture())
        assert (refused.status_code, refused.json()["error"]["remedy"]) == (404, "run=second")
        before = client.post("/predict?run=second", content=picture()).json()
        weights = own_folder / "second/checkpoints/best.pt"
        whole = weights.read_bytes()
        new = weights.with_name("new.pt")  # put in place at once, as a training does
        new.write_bytes(whole[:1000])
        new.replace(weights)
        until(said, 1, lambda: client.post("/predict?run=second", content=picture()).json() == before)
        assert "the earlier version is still served" in said[0]
        new.write_bytes(whole)
        new.replace(weights)
        until(said, 2, lambda: client.post("/predict?run=second", content=picture()).json() == before)
        assert said[1] == "second has changed and was reloaded"


def test_what_cannot_be_served_is_refused_before_it_answers(run: Path) -> None:
    with pytest.raises(UsageError, match="two runs called digits") as caught:
        Service([run, run / "checkpoints/best.pt"], striate.load, Limits())
    assert caught.value.remedy == "rename the folder of one"
    with pytest.raises(UsageError, match="digits twice") as caught:
        Service([run, run], striate.load, Limits())
    assert caught.value.remedy == "leave out one of them"
    with pytest.raises(RunError, match="striate train mnist5k --out runs/first"):
        Service([Path("nowhere")], striate.load, Limits())
    with pytest.raises(UsageError, match="8 or more"):
        striate.serve(run, token="short")
    with pytest.raises(UsageError, match="an address of this machine") as caught:
        listen("nosuch.invalid", 0)
    assert caught.value.where == "--host"


def test_the_address_that_is_printed_opens_the_page(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Server, "run_on", lambda self, _: self._announce())
    striate.serve(run, token="ab&c#d%41+x")
    assert capsys.readouterr().out.strip().endswith("/?token=ab%26c%23d%2541%2Bx")


def test_a_run_without_a_checkpoint_yet_is_told_how_to_go_on(run: Path, own_folder: Path) -> None:
    shutil.copytree(run, "begun")
    Path("begun/metrics.json").unlink()
    shutil.rmtree("begun/checkpoints")
    with pytest.raises(RunError) as caught:
        Service([Path("begun")], striate.load, Limits())
    assert caught.value.remedy == "striate train --resume begun"


def test_files_of_one_name_are_served_with_their_suffix(run: Path, own_folder: Path) -> None:
    Path("other").mkdir()
    shutil.copytree(run, "digits")
    for place in ("digits.pt", "other/digits.pt"):
        shutil.copy(run / "checkpoints/best.pt", place)
    service = Service([Path("digits"), Path("digits.pt")], striate.load, Limits())
    assert [served.name for served in service.runs] == ["digits", "digits.pt"]
    with pytest.raises(UsageError, match=r"two runs called digits\.pt") as caught:
        Service([Path("digits"), Path("digits.pt"), Path("other/digits.pt")], striate.load, Limits())
    assert caught.value.remedy == "rename the file of one"


def test_a_name_does_not_depend_on_the_order_of_files(own_folder: Path) -> None:
    (own_folder / "net.v2").mkdir()
    files = [Path("fl.pt2"), Path("a b.onnx"), Path("net.v2"), Path("fl.xml")]
    assert serving._names(files) == ["fl.pt2", "a b", "net.v2", "fl.xml"]
    assert serving._names(files[::-1]) == ["fl.xml", "net.v2", "a b", "fl.pt2"]


@pytest.mark.slow
def test_the_verb_answers_and_finishes_what_it_accepted(run: Path) -> None:
    import secrets
    import signal
    import subprocess
    import sys
    import urllib.request

    words = [sys.executable, "-m", "striate", "serve", str(run), "--no-open", "--json", "--token", TOKEN]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["url"].partition("/?")[0]
        request = urllib.request.Request(f"{address}/predict", picture(), {"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request) as answer:
            assert json.load(answer)["path"] == "picture"
        # What was accepted when it is told to end is finished.
        edge = secrets.token_hex(8)
        part = f'--{edge}\r\nContent-Disposition: form-data; name="a"; filename="a.png"\r\n\r\n'.encode()
        form = b"".join(part + picture(seed) + b"\r\n" for seed in range(200)) + f"--{edge}--\r\n".encode()
        request = urllib.request.Request(f"{address}/predict", form, dict(request.headers))
        request.add_header("Content-Type", f"multipart/form-data; boundary={edge}")
        lines: list[dict[str, Any]] = []
        asking = threading.Thread(target=lambda: lines.extend(json.load(urllib.request.urlopen(request))))
        asking.start()
        for _ in range(2000):
            with urllib.request.urlopen(
                urllib.request.Request(f"{address}/metrics", headers=dict(request.headers))
            ) as counts:
                if 'striate_predictions_total{run="digits"} 1.0' not in counts.read().decode() or lines:
                    break
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        asking.join()
        assert [line["path"] for line in lines] == ["a.png"] * 200
