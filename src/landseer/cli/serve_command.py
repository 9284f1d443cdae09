"""``landseer serve``."""

from __future__ import annotations

from typing import Any

import click


@click.command("serve")
@click.argument("index")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0: any free one."
)
@click.option(
    "--token",
    envvar="LANDSEER_TOKEN",
    help="Who says it may change INDEX; needed to listen on another --host.  [env: LANDSEER_TOKEN]",
)
@click.option("--read-only", is_flag=True, help="Refuse all changes, whoever asks.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes that answer."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@click.option(
    "--name", "names", multiple=True, help="A name by which browsers may call this machine; repeatable."
)
@click.option(
    "--upload-mb",
    default=25.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True, max=2000),
    help="Most megabytes of one request.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    help="Requests a second and address; 0: any number.  [default: 50 on another --host, any number here]",
)
def command(**options: Any) -> None:
    """Answer photos in the browser and by REST, from INDEX alone.

    INDEX is a path or file:PATH; it may be built, grown and searched by others meanwhile.  Only this machine can ask
    unless another --host is named.  /docs lists the REST calls.  Ctrl-C ends it once the requests under way are
    answered.

    \b
    Example:
        landseer serve INDEX
        LANDSEER_TOKEN=a-long-secret landseer serve INDEX --workers 2
    """
    from landseer.server import ServerSettings, serve

    settings = ServerSettings(**options)

    def started(host: str, port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"http://{shown}:{port} answers (REST: /docs); Ctrl-C ends it")

    serve(settings, started=started)
