"""Whatever the OpenAPI file allows, and much that it does not, is answered without a fault of the server."""

from __future__ import annotations

from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

load_all_checks()
ANSWERED = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
]


@pytest.mark.slow
def test_the_calls_are_what_they_are_said_to_be(serve, index, bearer, drawn, encoded):
    files = st.sampled_from([encoded(drawn(0)), b"no photo"])
    schemathesis.openapi.format("binary", files)
    server = serve(index, env={"LANDSEER_TOKEN": bearer["Authorization"].removeprefix("Bearer ")})
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    statuses: dict[str, set[int]] = {}

    for operation in (result.ok() for result in schema.get_all_operations()):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=6,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case):
                answer = case.call(headers=bearer)
                statuses.setdefault(case.operation.label, set()).add(answer.status_code)
                case.validate_response(answer, checks=ANSWERED)

            with suppress(Unsatisfiable):  # a call without parameters cannot be made wrong
                check()
    assert len(statuses) == 17
    assert statuses["POST /api/search"] >= {200, 400}
    assert {status for found in statuses.values() for status in found} >= {200, 400, 404, 422}
    log = server.log.read_text()
    assert "Traceback" not in log and "ERROR" not in log
