"""Servers as processes: slow and huge requests, a graceful end, several workers of which one is killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from landseer.search import open_index, verify_index

TOKEN = {"LANDSEER_TOKEN": "a-token-for-tests"}
pytestmark = pytest.mark.slow


def form(data, field="photo"):
    head = f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="x"\r\n\r\n'.encode()
    return head + data + b"\r\n--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


def call(url, *, data=None, headers=None, method=None):
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def resident(pid):
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def answer_of(connection):
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def test_slow_and_huge_requests_cost_neither_time_nor_memory(serve, index, drawn, encoded):
    server = serve(index, env=TOKEN)
    body, headers = form(encoded(drawn(0)))
    search = f"{server.url}/api/search"
    assert call(search, data=body, headers=headers)[0] == 200
    before = resident(server.process.pid)

    # heads that drip in byte by byte; others are answered all the while
    start = time.monotonic()
    dripping = [server.connect() for _ in range(40)]
    for connection in dripping:
        connection.sendall(b"GET /api/index HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    ended = set()
    while len(ended) < len(dripping) and time.monotonic() - start < 25:
        for number, connection in enumerate(dripping):
            if number not in ended:
                try:
                    connection.sendall(b"X")
                except OSError:
                    ended.add(number)
        assert call(f"{server.url}/api/health")[0] == 200
        time.sleep(0.5)
    assert len(ended) == len(dripping), "a head that does not come whole is not waited for"

    # a gigabyte that is said, and one that is not
    with server.connect() as connection:
        connection.sendall(
            b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n\r\n"
        )
        assert answer_of(connection).startswith(b"HTTP/1.1 413")
    with server.connect() as connection:
        connection.sendall(
            b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=edge\r\n\r\n"
        )
        sent, chunk = 0, b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        try:
            while sent < 1_000_000_000:
                connection.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        assert sent < 100_000_000
    assert resident(server.process.pid) - before < 150_000_000
    assert call(search, data=body, headers=headers)[0] == 200
    assert not (index / "uploads").exists()


def test_requests_under_way_end_before_the_server_does(serve, built, drawn, encoded):
    server = serve(built)
    body, headers = form(encoded(drawn(0)))
    url = f"{server.url}/api/search?rerank=true&k=20"
    half = server.connect()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    half.sendall(
        f"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode()
        + body[:100]
    )
    with ThreadPoolExecutor(8) as pool:
        under_way = [pool.submit(call, url, data=body, headers=headers) for _ in range(24)]
        while not any(each.done() for each in under_way):
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        half.sendall(body[100:])  # one that was half here comes whole, and is answered
        assert answer_of(half).startswith(b"HTTP/1.1 200")
        statuses = []
        for each in under_way:
            try:
                statuses.append(each.result()[0])
            except (urllib.error.URLError, ConnectionError) as error:
                reason = getattr(error, "reason", error)
                assert isinstance(reason, ConnectionError), "only what had not begun is refused"
    assert statuses and set(statuses) == {200}
    assert server.process.wait(15) == 0


def test_one_worker_dies_under_load_and_the_others_answer(serve, index, drawn, encoded):
    server = serve(index, "--workers", "2", env=TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN['LANDSEER_TOKEN']}"}
    first = server.workers()
    assert len(first) == 2
    end, statuses, broken, added = threading.Event(), [], [], []

    def ask(number):
        body, headers = form(encoded(drawn(number % 3, noise=number)))
        while not end.is_set():
            try:
                status, found = call(f"{server.url}/api/search", data=body, headers=headers)
                statuses.append(status)
                assert found["answers"][0]["rank"] == 1
            except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
                broken.append(error)

    def send():
        for number in range(1000, 2000):
            if end.is_set():
                return
            body, headers = form(encoded(drawn(number)), "photos")
            try:
                status, found = call(f"{server.url}/api/photos", data=body, headers={**headers, **bearer})
            except (urllib.error.URLError, ConnectionError):
                continue
            assert status in (200, 409)
            added.extend(found.get("added", ()))

    with ThreadPoolExecutor(5) as pool:
        asking = [pool.submit(ask, number) for number in range(4)] + [pool.submit(send)]
        time.sleep(2)
        os.kill(first[0], signal.SIGKILL)
        killed = len(statuses)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (len(server.workers()) < 2 or len(statuses) < killed + 40):
            time.sleep(0.2)
        end.set()
        for each in asking:
            each.result()
    assert set(statuses) == {200} and len(statuses) >= killed + 40
    assert len(broken) <= 5, "what the dead worker was at is lost, and nothing else"
    assert len(server.workers()) == 2 and first[0] not in server.workers()
    assert added
    assert verify_index(index) == []
    with open_index(index) as opened:
        assert all(opened.holds(added)), "what was acknowledged is there"
        for photo in added:
            record = opened.photos([photo])[photo]
            assert (index / "uploads" / record["path"]).is_file()
    for photo in added[:3]:  # and every worker sees it
        assert {call(f"{server.url}/api/photo?id={photo}")[0] for _ in range(6)} == {200}
    with urllib.request.urlopen(f"{server.url}/metrics") as numbers:
        assert "landseer_requests_total" in numbers.read().decode()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
