"""``landseer serve``."""

from __future__ import annotations

from typing import Any

import click


@click.command("serve")
@click.argument("index", required=False)
@click.option("--run", help="Show this finished run, query by query.")
@click.option(
    "--compare", help="Beside this other run on the same collection.  [default: its untrained model]"
)
@click.option("--data", help="The run's collection.  [default: the one beside the run]")
@click.option("--root", help="Where its photos lie now, if they have moved.")
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
    """Answer photos in the browser and by REST, from INDEX alone; or show how a run answered its queries.

    INDEX is a path or file:PATH; it may be built, grown and searched by others meanwhile.  Only this machine can ask
    unless another --host is named.  /docs lists the REST calls.  Ctrl-C ends it once the requests under way are
    answered.  With --run the page /run shows a finished run, and INDEX may be left out.

    \b
    Example:
        landseer serve INDEX
        landseer serve --run RUN --data COLLECTION --compare OTHER_RUN
        LANDSEER_TOKEN=a-long-secret landseer serve INDEX --workers 2
    """
    from landseer.server import ServerSettings, serve

    settings = ServerSettings(**options)

    def started(host: str, port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"http://{shown}:{port} answers (REST: /docs); Ctrl-C ends it")
        if settings.run is not None:
            click.echo(f"http://{shown}:{port}/run shows {settings.run}")

    serve(settings, started=started)
