"""``landseer serve``: what it is told, and what it refuses before it listens."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner

import landseer.server
from landseer.cli.serve_command import command
from landseer.server import ServerSettings


@pytest.fixture
def told(monkeypatch):
    """What the server would have been told."""
    found = []

    def serve(settings, *, started):
        found.append(settings)
        started("::1" if settings.port == 1 else settings.host, 4321)

    monkeypatch.setattr(landseer.server, "serve", serve)
    return found


def run(*arguments, env=None):
    return CliRunner().invoke(command, list(arguments), env=env)


def test_by_default_only_this_machine_asks_and_nobody_changes(told):
    done = run("INDEX")
    assert done.exit_code == 0
    assert told == [ServerSettings(index="INDEX")]
    assert told[0].local and not told[0].writable and told[0].rate_here is None
    assert done.output == "http://127.0.0.1:4321 answers (REST: /docs); Ctrl-C ends it\n"
    assert "http://[::1]:4321 " in run("INDEX", "--port", "1").output


def test_the_token_may_come_from_the_environment(told):
    run("INDEX", "--host", "0.0.0.0", "--workers", "2", env={"LANDSEER_TOKEN": "from-the-environment"})
    (settings,) = told
    assert settings.token == "from-the-environment" and settings.writable and not settings.local
    assert settings.rate_here == 25
    run("INDEX", "--read-only", "--token", "another-token", "--rate", "0", "--name", "a", "--name", "b")
    assert (told[1].writable, told[1].rate_here, told[1].names) == (False, None, ("a", "b"))


@pytest.mark.parametrize("arguments", [("--host", "0.0.0.0"), ("--token", "short"), ("--name", "http://a")])
def test_what_is_not_safe_is_refused(arguments):
    done = run("INDEX", *arguments)
    assert isinstance(done.exception, ValueError)


def test_an_address_that_is_taken_and_an_index_that_is_none_are_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert "name another --port" in str(done.exception)
    done = run(str(tmp_path / "absent"), "--port", "0")
    assert isinstance(done.exception, ValueError) and "absent" in str(done.exception)


def test_a_run_is_shown_with_or_without_an_index(told):
    done = run("--run", "RUN", "--compare", "OTHER", "--data", "C", "--root", "PHOTOS")
    assert told == [ServerSettings(run="RUN", compare="OTHER", data="C", root="PHOTOS")]
    assert done.output.splitlines()[1] == "http://127.0.0.1:4321/run shows RUN"
    run("INDEX", "--run", "RUN")
    assert told[1] == ServerSettings(index="INDEX", run="RUN")
    assert "name an INDEX, or a finished run" in str(run().exception)
    assert "run.json" in str(run_for_real("--run", "absent").exception)


def run_for_real(*arguments):
    """Where the server is not the one that only notes what it is told."""
    from landseer.server.running import serve

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landseer.server, "serve", serve)
        return run(*arguments, "--port", "0")
