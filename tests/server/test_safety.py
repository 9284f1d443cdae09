"""Who may ask what, from where, how much; and a hostile set, of which nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import struct
import time
import zlib
from urllib.parse import quote

import pytest
from PIL import Image

from landseer.server.safety import Rates, cookie_of, known_host, same_site
from landseer.server.settings import ServerSettings

WRITES = [
    ("POST", "/api/photos", {"files": [("photos", ("x", b"x"))]}),
    ("DELETE", "/api/photo?id=rome/0.png", {}),
    ("PATCH", "/api/photo?id=rome/0.png", {"json": {"landmark": None}}),
    ("PATCH", "/api/landmark?landmark=0", {"json": {"name": "x"}}),
    ("POST", "/api/landmarks/merge", {"json": {"into": 0, "from": [1]}}),
    ("POST", "/api/landmarks/split", {"json": {"photos": ["rome/0.png"], "name": "x"}}),
]
TRAVERSALS = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "/etc/passwd",
    "....//....//etc/passwd",
    "..\\..\\windows\\win.ini",
    "file:///etc/passwd",
    "http://127.0.0.1:1/x",
    "rome/../rome/0.png",
    "~/.ssh/id_rsa",
    "a.tar::../../etc/passwd",
    "manifest.json",
    "\udcff",
    "x" * 3999,
    "<script>alert(1)</script>",
    "'; DROP TABLE photos; --",
    "${jndi:ldap://127.0.0.1/x}",
]


def tree(folder):
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.endswith(("-shm", "-wal"))
    }


def is_refused(answer, *statuses):
    assert answer.status_code in (statuses or range(400, 500)), answer.text
    body = answer.json()
    assert set(body) == {"error"} and body["error"] and "\n" not in body["error"]
    assert "Traceback" not in answer.text and 'File "' not in answer.text
    return body["error"]


def png(width, height, rows=b"", *, kind=0, depth=1):
    """A PNG with that in its header, whatever its pixels are."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def hostile_photos(encoded):
    line = Image.new("RGB", (10_000, 1), "red")
    text_bomb = b"tEXt" + b"a\0" + zlib.compress(b"x" * 50_000_000)
    whole = encoded(Image.new("RGB", (64, 64), "red"))
    at = whole.index(b"IDAT") - 4
    bomb = whole[:at] + struct.pack(">I", len(text_bomb) - 4) + b"zTXt" + text_bomb[4:]
    gif = bytearray(encoded(Image.new("P", (64, 64)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    return {
        "nothing": b"",
        "text": b"hello",
        "a page": b"<!doctype html><script>alert(1)</script>",
        "a drawing": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "a document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
        "an archive": b"PK\x03\x04" + b"\0" * 60,
        "10,000 x 1 pixels": encoded(line),
        "1 x 10,000 pixels": encoded(line.transpose(Image.Transpose.ROTATE_90), "JPEG"),
        "1 x 1 pixel": encoded(Image.new("RGB", (1, 1))),
        "a bomb of 20,000 x 20,000 pixels": png(20_000, 20_000, zlib.compress(b"\0" * 2501 * 20_000, 9)),
        "a bomb of 2^31 pixels": png(2**31 - 1, 2**31 - 1),
        "a canvas of 65,535 x 65,535": bytes(gif),
        "a bomb of text": bomb + whole[at:][:20],
        "half a photo": whole[: len(whole) // 2],
        "a header alone": encoded(Image.new("RGB", (640, 640)), "JPEG")[:300],
    }


def test_hostile_photos_are_refused_wherever_they_are_sent(writer, index, encoded):
    before = tree(index)
    for name, data in hostile_photos(encoded).items():
        start = time.perf_counter()
        for url, more in (
            ("/api/search", {"files": {"photo": ("x.jpg", data, "image/jpeg")}}),
            ("/api/search?crop=0,0,0.5,0.5", {"files": {"photo": ("x.jpg", data)}}),
            ("/api/match", {"files": {"photo": ("x.jpg", data)}, "data": {"id": "rome/0.png"}}),
        ):
            is_refused(writer.post(url, **more), 400), name
        kept = writer.post("/api/photos", files=[("photos", ("x.jpg", data))]).json()
        assert kept["added"] == [] and len(kept["unreadable"]) == 1, name
        assert time.perf_counter() - start < 10, name
    assert tree(index) == before


@pytest.mark.parametrize(
    "more",
    [
        {"content": b"x" * 100},
        {"json": {"photo": "x"}},
        {"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"garbage", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {
            "content": b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--",
            "headers": {"content-type": "multipart/form-data; boundary=x"},
        },
        {"data": {"photo": "not a file"}},
        {"files": {"picture": ("x", b"x")}},
        {"files": [("photo", ("x", b"x")), ("photo", ("y", b"y"))]},
        {"files": {"photo": ("x", b"x")}, "data": {f"f{n}": "x" for n in range(100)}},
        {"files": {"photo": ("x", b"x")}, "data": {"f": "x" * 10_000}},
        {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}},
    ],
)
def test_forms_of_other_shapes_are_refused(client, more):
    for url in ("/api/search", "/api/match"):
        is_refused(client.post(url, **more), 400)


def test_nothing_that_looks_like_a_path_reaches_a_file(writer, index, drawn, encoded):
    photo = encoded(drawn(0))
    before, generation = tree(index), writer.get("/metrics").status_code
    assert generation == 200
    for text in TRAVERSALS:
        plain = text.encode("utf-8", "surrogateescape")
        said = quote(plain, safe="")
        for path in ("photo", "thumbnail", "image", "similar"):
            is_refused(writer.get(f"/api/{path}?id={said}"), 404)
        is_refused(writer.delete(f"/api/photo?id={said}"), 404)
        is_refused(writer.patch(f"/api/photo?id={said}", json={"landmark": None}), 404)
        is_refused(writer.get(f"/api/photos?filter={said}"), 400)
        is_refused(writer.get(f"/api/photos?country={said}"), 422)
        is_refused(writer.get(f"/api/similar?id=rome/0.png&crop={said}"), 400, 422)
        found = writer.get(f"/api/landmarks?text={quote(plain[:200])}")
        assert found.status_code == 200 and found.json()["total"] == 0
        for folder in ("/static/", "/docs/", "/"):
            answer = writer.get(folder + quote(plain, safe="/%"))
            assert answer.status_code in (404, 400, 405) and "root:" not in answer.text
        body = {"a": text.encode("utf-8", "replace").decode(), "b": "rome/0.png"}
        is_refused(writer.post("/api/match", json=body), 404, 400)
        named = writer.post("/api/search", files={"photo": (text.encode("ascii", "replace").decode(), photo)})
        assert named.status_code == 200
    assert tree(index) == before


def test_the_place_of_photos_cannot_be_guessed_by_filters(client, photos):
    error = is_refused(client.get("/api/photos", params={"filter": f"root = '{photos}'"}), 400)
    assert "no column 'root'" in error and "root," not in error.partition("known")[2]
    is_refused(client.get("/api/photos", params={"filter": "id like '%a%a%a%a%a%a%a%a%a%a%'"}), 400)
    is_refused(client.get("/api/photos", params={"filter": "landmark = 1) or (1 = 1"}), 400)
    assert (
        client.get(
            "/api/photos", params={"filter": "landmark = 1 or landmark = 2", "labelled": False}
        ).json()["total"]
        == 0
    )


def test_scripts_in_names_stay_text(writer, drawn, encoded):
    script = "<img src=x onerror=alert(1)>"
    exif = Image.Exif()
    exif[0x010F] = exif[0x0110] = exif[0x010E] = script
    (photo,) = writer.post(
        "/api/photos",
        files=[("photos", (f"{script}.jpg", encoded(drawn(60), "JPEG", exif=exif)))],
        data={"landmark_name": script},
    ).json()["added"]
    assert "<" not in photo
    answer = writer.get("/api/landmarks", params={"text": script})
    assert answer.json()["landmarks"][0]["name"] == script
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_answer_says_what_a_browser_may_do_with_it(client):
    for path in ("/", "/docs", "/docs/start.js", "/api/index", "/api/absent", "/metrics", "/openapi.json"):
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers and "access-control-allow-origin" not in headers


@pytest.mark.parametrize(("method", "path", "more"), WRITES)
def test_nobody_changes_anything_without_the_token(client_on, index, bearer, method, path, more):
    before = tree(index)
    with client_on(index) as client:  # no token, no changes
        assert "--token" in is_refused(client.request(method, path, headers=bearer, **more), 403)
    with client_on(index, token="a-token-for-tests", read_only=True) as client:
        is_refused(client.request(method, path, headers=bearer, **more), 403)
    with client_on(index, token="a-token-for-tests") as client:
        for said in (
            {},
            {"Authorization": "Bearer wrong-token"},
            {"Authorization": "Basic a-token-for-tests"},
            {"Authorization": "Bearer \xe9".encode()},
        ):
            is_refused(client.request(method, path, headers=said, **more), 401)
        client.cookies.set("landseer", cookie_of(ServerSettings(index="", token="a-token-for-tests")))
        is_refused(client.request(method, path, **more), 401)
        for page in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            is_refused(client.request(method, path, headers={**bearer, **page}, **more), 403)
    assert tree(index) == before


def test_elsewhere_everything_needs_the_token(client_on, built, bearer, drawn, encoded):
    with client_on(built, host="0.0.0.0", token="a-token-for-tests") as client:
        asks = [
            ("GET", "/api/index", {}),
            ("GET", "/api/thumbnail?id=rome/0.png", {}),
            ("GET", "/metrics", {}),
            ("GET", "/docs", {}),
            ("POST", "/api/search", {"files": {"photo": ("x", encoded(drawn(0)))}}),
        ]
        for method, path, more in asks:
            is_refused(client.request(method, path, **more), 401)
            assert client.request(method, path, headers=bearer, **more).status_code == 200
        assert client.get("/api/health").status_code == 200
        is_refused(client.post("/api/session", json={"token": "wrong"}), 401)
        told = client.post("/api/session", json={"token": "a-token-for-tests"})
        assert told.status_code == 204
        cookie = told.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "a-token-for-tests" not in cookie
        for method, path, more in asks:
            assert client.request(method, path, **more).status_code == 200


def test_only_names_of_this_machine_are_answered(client):
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8765", "", "a b", "[::1"):
        is_refused(client.get("/api/index", headers={"Host": host}), 400)
    for host in ("localhost:8765", "127.0.0.1", "[::1]:80", "192.168.1.7:8765"):
        assert client.get("/api/health", headers={"Host": host}).status_code == 200
    named = ServerSettings(index="", names=("photos.home",))
    assert known_host("photos.home:8765", named) and not known_host("other.home", named)


def test_pages_of_others_are_told_apart():
    here = {"host": "127.0.0.1:8765"}
    assert same_site(here) and same_site(
        {**here, "origin": "http://127.0.0.1:8765", "sec-fetch-site": "same-origin"}
    )
    for other in (
        "http://127.0.0.1:9999",
        "http://localhost:8765",
        "null",
        "http://127.0.0.1:8765.evil.example",
    ):
        assert not same_site({**here, "origin": other})


def test_searches_from_other_pages_are_refused(client, drawn, encoded):
    is_refused(
        client.post(
            "/api/search",
            files={"photo": ("x", encoded(drawn(0)))},
            headers={"Origin": "http://evil.example"},
        ),
        403,
    )


def test_sizes_are_limited_said_or_not(client_on, built, drawn):
    with client_on(built, upload_mb=0.1) as client:
        large = {"files": {"photo": ("x", b"x" * 200_000)}}
        assert "0.1 MB" in is_refused(client.post("/api/search", **large), 413)

        def streamed():  # no content-length
            for _ in range(50):
                yield b"x" * 10_000

        kind = {"content-type": "multipart/form-data; boundary=x"}
        is_refused(client.post("/api/search", content=streamed(), headers=kind), 413)
        is_refused(client.get("/api/index", headers={"content-length": "99999999999999999999"}), 413, 400)
        assert client.get("/api/index").status_code == 200


def test_what_is_sent_at_once_has_so_much_room_and_gives_it_back(
    client_on, built, drawn, encoded, monkeypatch
):
    photo = {"files": {"photo": ("x", encoded(drawn(0)))}}
    monkeypatch.setattr("landseer.server.safety._ROOM", 0)
    with client_on(built, upload_mb=0.05) as client:
        for _ in range(200):  # in all far more than the room
            assert client.post("/api/match", **photo, data={"id": "absent"}).status_code == 404
    monkeypatch.setattr("landseer.server.safety.max", lambda *_: 100, raising=False)
    with client_on(built) as client:
        is_refused(client.post("/api/search", **photo), 429)
        assert client.get("/api/index").status_code == 200


def test_rates_fill_again():
    now = [0.0]
    rates = Rates(2.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("landseer.server.safety.time.monotonic", lambda: now[0])
        assert [rates.wait("a") == 0 for _ in range(12)] == [True] * 10 + [False] * 2
        assert rates.wait("b") == 0
        now[0] += 1.0
        assert [rates.wait("a") == 0 for _ in range(3)] == [True, True, False]
    assert Rates(None).wait("a") == 0


def test_who_asks_too_often_is_told_when_to_come_again(client_on, built):
    with client_on(built, rate=1) as client:
        answers = [client.get("/api/health") for _ in range(8)]
    assert [answer.status_code for answer in answers[:5]] == [200] * 5
    is_refused(answers[-1], 429)
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_logs_tell_neither_photos_nor_names(client, caplog, drawn, encoded):
    caplog.set_level("INFO")
    client.post(
        "/api/search",
        params={"filter": "landmark_name = 'secret place'"},
        files={"photo": ("secret.jpg", encoded(drawn(0)))},
    )
    client.get("/api/photo", params={"id": "secret id"})
    told = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    assert [line.rsplit(" ", 2)[0] for line in told] == ["POST /api/search 200", "GET /api/photo 404"]


def test_a_fault_of_ours_is_told_without_its_insides(client_on, built, monkeypatch, drawn, encoded):
    def broken(*_, **__):
        raise RuntimeError("/secret/path is broken")

    with client_on(built) as client:
        monkeypatch.setattr("landseer.pipeline.online.online.answered", broken)
        answer = client.post("/api/search", files={"photo": ("x", encoded(drawn(0)))})
        assert answer.status_code == 500 and "secret" not in answer.text and set(answer.json()) == {"error"}
        monkeypatch.undo()
        assert client.post("/api/search", files={"photo": ("x", encoded(drawn(0)))}).status_code == 200


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "give a --token"),
        ({"host": "192.168.1.5", "token": ""}, "give a --token"),
        ({"token": "short"}, "at least 8"),
        ({"names": ("http://x",)}, "is no name of a machine"),
    ],
)
def test_settings_that_are_not_safe_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ServerSettings(index="x", **settings)


def test_the_calls_are_described_with_examples(client):
    described = json.loads(client.get("/openapi.json").content)
    paths = {path.removeprefix("/api/") for path in described["paths"]}
    assert paths >= {"search", "similar", "match", "index", "photo", "photos", "landmarks", "landmarks/merge"}
    assert not paths & {"/", "static", "metrics"}
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "examples" in json.dumps(described["paths"]["/api/search"])
