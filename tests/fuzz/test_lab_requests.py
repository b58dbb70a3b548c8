"""The lab's requests, made from the parameters that its routes declare: an answer, or a refusal with a remedy."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from striate.lab.application import make_application
from striate.lab.security import Guard
from striate.lab.training import training_process
from striate.lab.workbench import Lab

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would like httpx2 better than httpx
    from starlette.testclient import TestClient

Asking = tuple[dict[str, Any], Callable[[dict[str, Any]], None]]
REFUSED = {400, 404, 405, 413, 422}
MEANT = {
    "data": ["mnist5k", "digits", "run", "iris"],
    "image": ["mnist5k#0", "run#1", "mnist5k#4999", "upload:x"],
    "name": ["mnist5k#0", "run#0", "red", "gray", "build", "train"],
    "model": ["mnist-cnn", "run", "fc(10)", "conv(4,3) relu pool(2) fc(7)", "lenet5"],
    "input": ["", "1x28x28", "3x32x32", "1x8x8"],
    "kernel": ["sobel-x", "1 1 1 /3", "0 -1 0; -1 5 -1; 0 -1 0", "mean"],
    "weights": ["ones", "sobel-x"],
    "split": ["test", "val", "train"],
    "part": ["test", "val", "train", "unlabeled"],
    "label": ["3", "", "a class"],
    "sample": [0, 1, 3],
    "run": ["digits-1", "run", "run (opened)"],
    "region": ["0,0,4,4"],
    "epochs": [1],
    "recipe": ["quick"],
}
"""What parameters of these names usually hold; others hold one of their choices, or a small number."""
_NUMBERS = st.sampled_from([-1, 0, 1, 2, 7, 60, 64, 1024, 10**5, 10**7, 2**31, 2**63, 2**64, 10**30, 10**400])
_ODD = st.sampled_from(
    [
        "",
        " ",
        "\0",
        "-",
        "1e9",
        "nan",
        "٣",
        "\ud800",
        "\udfff",
        "a\ud83d",
        "%s",
        "../..",
        "1" * 5000,
        "fc(" * 300,
        "<b>",
    ]
)
_TEXTS = st.one_of(_ODD, st.text(max_size=30))


def _meant(name: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    usual = MEANT.get(name) or schema.get("enum") or [max(number, schema.get("minimum", 0)) for number in (0, 1, 3)]
    return st.sampled_from(usual)


def _strange(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """At and beyond every bound, and whatever text."""
    bounds = [schema[bound] + step for bound in ("minimum", "maximum") if bound in schema for step in (-1, 0, 1)]
    return st.one_of(st.sampled_from([*bounds, 0, -1]), _NUMBERS, _TEXTS)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, st.floats(), _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=3)),
    max_leaves=6,
)
_FIELDS_OF = {
    "/api/build/network": ("model", "input"),
    "/api/train/resume": ("run",),
    "/api/labels/correct": ("part", "sample", "label"),
}
_FIELDS = ("model", "input", "data", "epochs", "minutes", "recipe", "lr", "run")


@st.composite
def _body(draw: st.DrawFn, path: str) -> bytes:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(st.binary(max_size=60), st.sampled_from([b"[" * 100_000, b"{}", b"1e999", b'"\\ud800"'])))
    names = _FIELDS_OF.get(path, _FIELDS)
    odd = draw(st.sampled_from(names))
    fields = {name: draw(_meant(name, {})) for name in names if draw(st.integers(0, 3))}
    fields[odd] = draw(st.one_of(_ODD, _JSON))
    return json.dumps(fields if draw(st.integers(0, 9)) else draw(_JSON)).encode()


@st.composite
def requests(draw: st.DrawFn, routes: dict[str, Any]) -> dict[str, Any]:
    """A request to one of the routes: method, path, pairs of its query, and content."""
    paths = sorted(routes)
    path = draw(st.sampled_from(paths + 3 * [path for path in paths if "post" in routes[path]]))
    method = draw(st.sampled_from([*routes[path]] * 9 + ["post", "get", "put", "head", "options"]))
    declared = routes[path].get(method, {}).get("parameters", [])
    asked = [one for one in declared if one["in"] == "query" and draw(st.integers(0, 19))]
    odd = draw(st.sampled_from([None, *(one["name"] for one in asked)]))
    query = [
        (one["name"], str(draw(_strange(one["schema"]) if one["name"] == odd else _meant(one["name"], one["schema"]))))
        for one in asked
    ]
    query += draw(st.lists(st.tuples(_TEXTS, _TEXTS), max_size=1))
    content = draw(_body(path)) if method in ("post", "put") else b""
    path = path.replace("{name}", draw(st.sampled_from(["build", "watch", "%00", "..%2f", "%ff", "a/b", "nothing"])))
    query = [(_plain(name), _plain(value)) for name, value in query]
    kind = draw(
        st.sampled_from(["application/json"] * 9 + ["text/plain", "", "multipart/form-data", "application/json;q"])
    )
    return {
        "method": method.upper(),
        "url": path,
        "params": query,
        "content": content,
        "headers": {"content-type": kind},
    }


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@pytest.fixture(scope="module")
def ask(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    """The routes of a lab with a run, and a function that makes a request and checks what comes back."""
    run = shutil.copytree(digits_run, tmp_path_factory.mktemp("run") / "digits")  # corrected labels are written to it
    lab = Lab(Path(run))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("lab"))
        patched.setattr(training_process, "COMMAND", ("true",))
        guard = make_application(lab, 8000)
        assert isinstance(guard, Guard)
        client = TestClient(guard, base_url="http://127.0.0.1:8000", headers={"striate-key": lab.token})
        client.get("/", params={"token": lab.token})

        def check(request: dict[str, Any]) -> None:
            answer = client.request(**request)  # raises what the lab did not foresee
            assert answer.status_code in REFUSED | {200}, answer.text
            if answer.status_code in (413, 422) and "json" in answer.headers["content-type"]:
                assert {"where", "got", "expected", "remedy"} <= answer.json()["error"].keys()

        yield guard._app.openapi()["paths"], check  # type: ignore[attr-defined]
        lab.end()


def _fuzz(ask: Asking, examples: int) -> None:
    routes, check = ask
    phases = [Phase.explicit, Phase.generate, Phase.shrink]

    @settings(
        max_examples=examples, deadline=None, phases=phases, suppress_health_check=list(HealthCheck), database=None
    )
    @given(requests(routes))
    def all_are_answered(request: dict[str, Any]) -> None:
        check(request)

    all_are_answered()


def test_some_requests_are_answered_or_refused(ask: Asking) -> None:
    _fuzz(ask, 40)


@pytest.mark.slow
def test_many_requests_are_answered_or_refused(ask: Asking) -> None:
    _fuzz(ask, 5_000)
