"""Who may ask the lab what: the token, Host, Origin, sizes, and what pages may do."""

from __future__ import annotations

import io
import re
import struct
import zlib
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from striate.lab.application import make_application
from striate.lab.security import LARGEST_REQUEST, LARGEST_UPLOAD
from striate.lab.workbench import Lab

HOME = "http://127.0.0.1:8000"
ASKED = "/api/build/choices"


@pytest.fixture
def stranger() -> TestClient:
    return TestClient(make_application(Lab(token="right"), 8000), base_url=HOME)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("path", ["/", "/build", ASKED, "/static/lab.js", "/nothing", "/?token=wrong", "/?token="])
def test_without_the_token_nothing_is_told(stranger: TestClient, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert "striate lab" in answer.text
    assert "set-cookie" not in answer.headers


def key_in(page: str) -> str:
    return re.findall(r'<meta name="key" content="([^"]+)">', page)[0]


def test_the_address_gives_a_session_whose_cookie_opens_pages_alone(stranger: TestClient) -> None:
    first = stranger.get("/?token=right")
    assert first.status_code == 200
    cookie = first.headers["set-cookie"]
    assert cookie.startswith("striate-lab-8000=")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Domain" not in cookie
    key = key_in(first.text)
    assert not {"right", key} & set(re.split("[=;]", cookie))
    again = stranger.get("/build")
    assert again.status_code == 200
    assert "set-cookie" not in again.headers
    assert "right" not in again.text
    assert key not in again.text
    # Browsers send cookies to every port of this machine; the key is sent to this one only.
    assert stranger.get(ASKED).status_code == 401
    assert stranger.get(ASKED, params={"key": key}).status_code == 200
    assert stranger.get(ASKED, headers={"striate-key": key}).status_code == 200
    assert key_in(stranger.get("/?token=right").text) == key


def test_a_session_ends_when_its_browser_signs_out(stranger: TestClient) -> None:
    key = key_in(stranger.get("/?token=right").text)
    cookie = {"cookie": "; ".join(f"{name}={value}" for name, value in stranger.cookies.items())}
    assert stranger.post("/sign-out", headers={"origin": "http://127.0.0.1:9"}).status_code == 403
    assert stranger.get("/sign-out").status_code == 404
    assert stranger.get(ASKED, params={"key": key}).status_code == 200
    assert stranger.post("/sign-out").status_code == 204
    assert stranger.get(ASKED, params={"key": key}).status_code == 401
    assert stranger.get("/", headers=cookie).status_code == 401
    assert key_in(stranger.get("/?token=right").text) != key


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("others", ['prefs={"a":1}; ', "a=b c; ", "x; ", "ü=1; "])
def test_cookies_of_other_programs_do_no_harm(stranger: TestClient, others: str) -> None:
    stranger.get("/?token=right")
    cookie = f"{others}striate-lab-8000={stranger.cookies['striate-lab-8000']}"
    stranger.cookies.clear()
    assert stranger.get("/", headers={"cookie": cookie.encode("latin-1")}).status_code == 200


def test_another_cookie_is_not_enough(stranger: TestClient) -> None:
    name = "striate-lab-8000"
    for cookie in (f"{name}=wrong", f"{name}=", f"{name}=right", "striate-lab-1=right", "\x00;=;", f"{name}=rïght"):
        assert stranger.get("/", headers={"cookie": cookie.encode("latin-1")}).status_code == 401


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1]", "0.0.0.0"),
        *("127.0.0.1:8001", "127.0.0.1", "localhost:", "localhost:08000", "localhost:8000:8000"),
    ],
)
def test_another_host_is_refused(client: TestClient, host: str) -> None:
    assert client.get(ASKED, headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000"])
def test_this_machine_under_its_own_names_is_served(stranger: TestClient, host: str) -> None:
    assert stranger.get(f"{ASKED}?token=right", headers={"host": host}).status_code == 200


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://127.0.0.1:8000", "http://127.0.0.1:8001", "http://localhost:8000"],
)
def test_another_origin_is_refused(client: TestClient, origin: str) -> None:
    asked = {"model": "fc(10)", "input": "4"}
    assert client.post("/api/build/network", json=asked, headers={"origin": origin}).status_code == 403
    assert client.post("/api/build/network", json=asked, headers={"origin": HOME}).status_code == 200


def test_pages_may_run_our_scripts_only(client: TestClient) -> None:
    for path in ("/", "/build", "/static/lab.js", ASKED, "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert client.get("/").headers["cache-control"] == "no-store"


def test_no_page_has_a_script_or_style_inside(client: TestClient) -> None:
    for path in ("/", "/build"):
        text = client.get(path).text
        assert "<style" not in text
        assert " style=" not in text
        assert " on" + "click" not in text
        assert text.count("<script") == text.count('<script type="module" src="/static/lab.js"></script>') == 1


@pytest.mark.parametrize(
    ("path", "most"), [("/api/images/upload", LARGEST_UPLOAD), ("/api/build/network", LARGEST_REQUEST)]
)
def test_what_is_too_large_is_refused_announced_or_not(client: TestClient, path: str, most: int) -> None:
    announced = client.post(path, content=b"", headers={"content-length": str(most + 1)})
    assert announced.status_code == 413
    assert client.post(path, content=b"", headers={"content-length": "-1"}).status_code == 413
    pieces = (bytes(1 << 16) for _ in range(most // (1 << 16) + 2))
    assert client.post(path, content=pieces).status_code == 413


@pytest.mark.parametrize("path", ["/api/build/network", "/api/train/start", "/api/train/resume"])
def test_half_of_a_character_is_refused(client: TestClient, path: str) -> None:
    for half in (b'{"model": "\\ud800", "input": "1x8x8", "run": "x"}', b'{"\\udfff": 1}', b'"\\uDC00\\uD83D"'):
        answer = client.post(path, content=half, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert "surrogate" in answer.json()["error"]["got"]
    whole = b'{"model": "\\ud83d\\ude00 \\\\ud800", "input": "1x8x8", "run": "x", "data": "x"}'
    assert client.post(path, content=whole, headers={"content-type": "application/json"}).status_code in (200, 422)


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(client: TestClient) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    answer = client.post("/api/images/upload", content=bomb)
    assert answer.status_code == 422
    assert "more than the 24,000,000 allowed" in answer.json()["error"]["got"]


@pytest.mark.slow
def test_what_is_no_picture_is_told(client: TestClient) -> None:
    for content in (b"", b"<svg onload=alert(1)>", b"%!PS-Adobe"):
        answer = client.post("/api/images/upload", params={"title": "<b>x"}, content=content)
        assert answer.status_code == 422
        assert answer.json()["error"]["where"] == "<b>x"


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd#0", "upload:../x", "run#0", "iris#0", "mnist5k#-1", "mnist5k#5000", "#", "", "."],
)
def test_no_image_has_the_name_of_a_path(client: TestClient, name: str) -> None:
    for asked in ("about", "picture"):
        assert client.get(f"/api/images/{asked}", params={"name": name}).status_code == 422


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "path", ["/static/../lab.py", "/static/%2e%2e/server.py", "/static//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"]
)
def test_static_files_are_those_of_their_folder(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_page_opens_no_files(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("open('ran', 'w')")
    (tmp_path / "some.pt").write_bytes(b"x")
    for model in (
        "net.py:build",
        f"{tmp_path}/net.py:build",
        "some.pt",
        "./runs/x",
        "..",
        "mnist-cnn/../net.py:x",
        "run",
        "net.py",
    ):
        answer = client.post("/api/build/network", json={"model": model, "input": "1x8x8"})
        assert answer.json()["error"]["remedy"], model
    assert not (tmp_path / "ran").exists()


def test_a_name_with_markup_stays_text(client: TestClient) -> None:
    answer = client.post("/api/build/network", json={"model": "<img src=x onerror=alert(1)>", "input": "1x8x8"})
    assert answer.json()["error"]["got"]
    assert answer.headers["content-type"] == "application/json"


def test_an_uploaded_picture_is_sent_as_a_picture(client: TestClient) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (5, 4), (10, 20, 30, 255)).save(out, "PNG")
    about = client.post("/api/images/upload", params={"title": "five"}, content=out.getvalue()).json()
    assert (about["width"], about["height"], about["channels"]) == (5, 4, ["red", "green", "blue"])
    answer = client.get("/api/images/picture", params={"name": about["name"]})
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as read:
        assert (read.size, read.getpixel((0, 0))) == ((5, 4), (10, 20, 30))


ANYTHING = st.text(max_size=40)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANYTHING, ANYTHING, st.sampled_from(("about", "picture", "samples", "region", "channel", "filter", "network")))
def test_whatever_is_asked_is_answered_or_refused(client: TestClient, one: str, other: str, asked: str) -> None:
    one, other = (text.encode("utf-8", "replace").decode() for text in (one, other))
    answers = {
        "about": lambda: client.get("/api/images/about", params={"name": one}),
        "picture": lambda: client.get("/api/images/picture", params={"name": f"mnist5k#{one}"}),
        "samples": lambda: client.get("/api/images/samples", params={"data": one, "start": other}),
        "region": lambda: client.get("/api/pixels/region", params={"image": one, "x": other, "y": 0}),
        "channel": lambda: client.get("/api/pixels/channel", params={"image": "mnist5k#0", "name": one}),
        "filter": lambda: client.get("/api/play/filter", params={"image": "mnist5k#0", "kernel": one, "mode": other}),
        "network": lambda: client.post("/api/build/network", json={"model": one, "input": other}),
    }
    # The client raises what the server does not handle.
    assert answers[asked]().status_code in (200, 422)


def test_a_fault_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("something unforeseen")

    monkeypatch.setattr("striate.lab.pixels_page.pixel_table", broken)
    client = TestClient(make_application(Lab(token="right"), 8000), base_url=HOME, raise_server_exceptions=False)
    asked = {"image": "mnist5k#0", "x": 0, "y": 0, "width": 1, "height": 1, "token": "right"}
    answer = client.get("/api/pixels/region", params=asked)
    assert answer.status_code == 500
    assert answer.json()["error"]["got"] == "RuntimeError: something unforeseen"


def test_a_page_of_a_session_that_has_ended_is_told_to_open_the_printed_address(stranger: TestClient) -> None:
    error = stranger.get(ASKED).json()["error"]
    assert error["got"] == "a browser that is not signed in"
    assert error["remedy"] == "open the address that `striate lab` printed, with its token"


def test_pages_know_how_large_a_file_may_be(stranger: TestClient) -> None:
    script = (files("striate.lab") / "static" / "api.js").read_text()
    assert f"const LARGEST_UPLOAD = {LARGEST_UPLOAD >> 20} << 20;" in script
