"""Build: what the page draws is the ledger, and what is wrong comes with its place and its fix."""

from __future__ import annotations

from starlette.testclient import TestClient

import striate
from striate.account.remarks.window_arithmetic import arithmetic, windows_of

STRING = "conv(6,5,stride=2) relu pool(2) fc(10)"


def build(client: TestClient, model: str, shape: str = "", outputs: int | None = None) -> dict:
    return client.post("/api/build/network", json={"model": model, "input": shape, "outputs": outputs}).json()


def test_the_drawing_is_the_ledger(client: TestClient) -> None:
    ledger = striate.summarize(STRING, (1, 28, 28))
    drawn = build(client, STRING, "1x28x28")
    assert (drawn["params"], drawn["macs"]) == (ledger.params, ledger.macs)
    assert [row["name"] for row in drawn["rows"]] == [row.name for row in ledger.rows]
    assert [row["params"] for row in drawn["rows"]] == [row.params for row in ledger.rows]
    assert drawn["rows"][0]["arithmetic"] == [arithmetic(windows_of(ledger.rows[0])[0])] == ["(28−5)/2+1 = 12.5"]
    assert drawn["rows"][0]["leftover"] == "1"
    assert [remark["code"] for remark in drawn["remarks"]] == [remark.code for remark in ledger.remarks]
    assert sorted(place for box in drawn["boxes"] for place in box["rows"]) == [0, 1, 2, 4]  # flattening has no box
    assert build(client, STRING, "1x28x28") == drawn


def test_networks_with_a_name_have_their_own_input(client: TestClient) -> None:
    choices = client.get("/api/build/choices").json()
    assert "resnet18" in [one["name"] for one in choices["networks"]]
    assert build(client, "resnet18")["params"] == 11_689_512
    assert build(client, "resnet18", "3x64x64", 7)["output"] == [7]


def test_every_example_can_be_drawn(client: TestClient) -> None:
    for example in client.get("/api/build/choices").json()["examples"]:
        drawn = build(client, example["model"], example["input"])
        assert not [remark for remark in drawn["remarks"] if remark["severity"] == "warning"], example


def test_a_mistake_has_its_place_and_its_fix(client: TestClient) -> None:
    error = build(client, "conv(6,5) rel fc(10)", "1x28x28")["error"]
    assert error["text"][error["position"] :].startswith("rel ")
    assert error["remedy"] == 'write "conv(6,5) relu fc(10)"'
    fixed = error["remedy"].removeprefix('write "').removesuffix('"')
    assert build(client, fixed, "1x28x28")["output"] == [10]


def test_an_input_that_does_not_fit_names_one_that_does(client: TestClient) -> None:
    error = build(client, "resnet18", "1x28x28x28")["error"]
    assert build(client, "resnet18", "x".join(map(str, error["fitting"])))["params"]


def test_wrong_arguments_are_told(client: TestClient) -> None:
    for values in ({"model": "x" * 20_001}, {"model": "fc(3)", "outputs": 0}, {}, {"model": "fc(3)", "input": "a"}):
        error = client.post("/api/build/network", json=values).json()["error"]
        assert set(error) >= {"where", "got", "expected", "remedy"}
