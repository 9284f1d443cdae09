"""The calls of the run explorer: they are there with a run only, say what the run says, and only read."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from starlette.testclient import TestClient

from landseer.pipeline.online import RULES, Online, RunExplorer
from landseer.server.app import make_app
from landseer.server.safety import HEADERS
from landseer.server.schemas import Run, RunQueries, RunQueryInFull
from landseer.server.settings import ServerSettings

_spec = importlib.util.spec_from_file_location(
    "run_folder", Path(__file__).parents[1] / "pipeline" / "run_folder.py"
)
by_hand = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(by_hand)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    collection = by_hand.collection_in(folder)
    by_hand.run_in(folder / "RUN", collection)
    by_hand.run_in(folder / "BETTER", collection, spoilt=False)
    return folder


@pytest.fixture(scope="module")
def run(made):
    return RunExplorer(made / "RUN", against=made / "BETTER")


def app_of(run, **more):
    return make_app(None, ServerSettings(run="RUN", **more), run)


@pytest.fixture(scope="module")
def client(run):
    with TestClient(app_of(run), base_url="http://127.0.0.1:8765", raise_server_exceptions=False) as found:
        yield found


def test_the_run_is_told_whole(client, run):
    told = client.get("/api/run").json()
    assert Run.model_validate(told, strict=True)
    assert (told["name"], told["other"], told["queries"], told["failed"]) == ("RUN", "BETTER", 10, 4)
    assert told["difference"]["value"] == run.facts.difference.value
    assert told["difference"]["p"] == run.facts.difference.test.p
    assert {each["tag"]: each["queries"] for each in told["tags"]} == run.tags()
    assert {each["tag"]: each["rule"] for each in told["tags"][1:]} == {
        tag: rule for tag, (_, rule) in RULES.items()
    }
    assert [each["taken_for"] for each in told["confusions"]] == [each.taken_for for each in run.confusions]
    assert told["index"] is False
    of_one = client.get("/api/run", params={"landmark": 1}).json()
    assert of_one["landmark_name"] == "Long Bridge" and of_one["tags"][0]["queries"] == 2


def test_queries_come_page_by_page_with_their_first_answers(client, run):
    told = client.get("/api/run/queries", params={"limit": 4}).json()
    assert RunQueries.model_validate(told, strict=True)
    assert (told["next"], told["total"]) == (4, 10)
    first = told["queries"][0]
    expected = run.queries()[0][0]
    assert (first["id"], first["ap"], first["change"]) == (expected.id, expected.ap, expected.change)
    assert [answer["id"] for answer in first["answers"]] == [a.photo for a in run.answers(expected.id, 8)]
    assert [answer["id"] for answer in first["other_answers"]] == [
        a.photo for a in run.other_answers(expected.id, 8)
    ]
    rest = client.get("/api/run/queries", params={"after": 8, "tag": ""}).json()
    assert rest["next"] is None and len(rest["queries"]) == 2
    chosen = client.get("/api/run/queries", params={"sort": "change", "landmark": 1, "tag": "failed"}).json()
    assert {query["id"] for query in chosen["queries"]} == {"q4", "lost"}


def test_one_query_has_all_answers_and_the_reasons(client, run):
    told = client.get("/api/run/query", params={"id": "q0"}).json()
    assert RunQueryInFull.model_validate(told, strict=True)
    assert len(told["answers"]) == 18 and told["answers"][0]["why"] == "first of q0"
    assert told["nearest_right"] == run.nearest_right("q0")
    assert {answer["verdict"] for answer in told["answers"]} == {"right", "wrong", "junk"}


def test_pictures_are_small_and_kept_by_the_browser(client):
    got = client.get("/api/run/thumbnail", params={"id": "q0", "side": 32})
    assert got.headers["content-type"] == "image/jpeg" and "max-age" in got.headers["cache-control"]
    assert max(Image.open(BytesIO(got.content)).size) == 32
    again = client.get(
        "/api/run/thumbnail", params={"id": "q0", "side": 32}, headers={"if-none-match": got.headers["etag"]}
    )
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("query", {"id": "nobody"}, 404),
        ("query", {"id": "a\0b"}, 400),
        ("query", {}, 422),
        ("queries", {"sort": "size"}, 400),
        ("queries", {"tag": "<script>"}, 400),
        ("queries", {"limit": 101}, 422),
        ("queries", {"landmark": "x"}, 422),
        ("thumbnail", {"id": "../RUN/run.json"}, 404),
        ("thumbnail", {"id": "/etc/passwd"}, 404),
        ("thumbnail", {"id": "q0", "side": 5000}, 422),
    ],
)
def test_what_is_asked_wrongly_is_one_line_that_names_no_place(client, made, path, params, status):
    got = client.get(f"/api/run/{path}", params=params)
    assert got.status_code == status
    assert set(got.json()) == {"error"} and "\n" not in got.json()["error"] and str(made) not in got.text


def test_the_page_is_the_first_one_without_an_index_and_nothing_can_be_changed(client):
    assert client.get("/", follow_redirects=False).headers["location"] == "/run"
    page = client.get("/run")
    assert page.status_code == 200 and "run.js" in page.text
    assert page.headers["content-security-policy"] == HEADERS["content-security-policy"]
    assert client.get("/api/ready").json() == {"status": "ready", "photos": 18}
    assert client.get("/api/index").status_code == client.post("/api/search").status_code == 404
    calls = client.get("/openapi.json").json()["paths"]
    assert set(calls) == {"/api/run", "/api/run/queries", "/api/run/query", "/api/run/thumbnail"}
    assert {method for call in calls.values() for method in call} == {"get"}


def test_an_index_alone_has_no_run_and_both_go_together(built, run, client_on):
    with client_on(built) as alone:
        assert alone.get("/run").status_code == alone.get("/api/run").status_code == 404
    app = make_app(Online(built), ServerSettings(index=str(built), run="RUN"), run)
    with TestClient(app, base_url="http://127.0.0.1:8765") as both:
        assert both.get("/api/run").json()["index"] is True
        assert both.get("/api/index").json()["photos"] == 28
        assert both.get("/", follow_redirects=False).status_code == 200


def test_elsewhere_a_run_needs_the_token_like_all_else(run):
    app = app_of(run, host="0.0.0.0", token="a-token-for-tests")
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        assert client.get("/run").status_code == 200
        for path in ("", "/queries", "/query?id=q0", "/thumbnail?id=q0"):
            assert client.get(f"/api/run{path}").status_code == 401
        client.headers["authorization"] = "Bearer a-token-for-tests"
        assert client.get("/api/run/query?id=q0").status_code == 200


def test_settings_without_anything_to_serve_are_refused():
    with pytest.raises(ValueError, match="name an INDEX, or a finished run as --run"):
        ServerSettings()
    for name in ("compare", "data", "root"):
        with pytest.raises(ValueError, match=f"--{name} is of a run"):
            ServerSettings(index="INDEX", **{name: "there"})
    assert not ServerSettings(run="RUN", token="a-token-for-tests").writable


def test_the_calls_are_what_they_are_said_to_be(run):
    load_all_checks()
    checks = [
        CHECKS.get_one(name)
        for name in (
            "not_a_server_error",
            "status_code_conformance",
            "content_type_conformance",
            "response_schema_conformance",
        )
    ]
    schema = schemathesis.openapi.from_asgi("/openapi.json", app_of(run, names=("testserver",)))
    statuses: dict[str, set[int]] = {}
    for operation in (result.ok() for result in schema.get_all_operations()):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=5,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case):
                answer = case.call()
                statuses.setdefault(case.operation.label, set()).add(answer.status_code)
                case.validate_response(answer, checks=checks)

            with suppress(Unsatisfiable):
                check()
    assert len(statuses) == 4 and statuses["GET /api/run"] >= {200}
