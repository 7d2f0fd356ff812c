"""The `streamax` command."""

import asyncio
import os
from typing import Annotated

import typer
from rich.console import Console

import services  # noqa: F401  (settles what gRPC does at a fork, before gRPC is imported)

app = typer.Typer(help="StreamAX.", no_args_is_help=True, add_completion=False)
suite = typer.Typer(help="All of StreamAX on this machine.", no_args_is_help=True)
app.add_typer(suite, name="suite")


@app.callback()
def streamax() -> None:
    """StreamAX: 24/7 live streams of pre-recorded video."""


@suite.command("run")
def run_suite(
    duration: Annotated[
        float | None, typer.Option(min=1, help="Seconds to stream for; without it, until Ctrl-C.")
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar="STREAMAX_DATABASE_URL",
            show_envvar=True,
            help="A superuser's, of a database to use instead of an embedded one.",
        ),
    ] = None,
    docker_host: Annotated[
        str, typer.Option(envvar="DOCKER_HOST", show_envvar=True, help="Where a Docker Engine would be.")
    ] = "unix:///var/run/docker.sock",
) -> None:
    """Brings everything up, streams a video to a local ingest, takes everything down."""
    from cli.suite.run import Options, run

    options = Options(
        duration=duration,
        database_url=database_url,
        docker_host=docker_host,
        # The services have configuration files; ours is not for them.
        environment={name: value for name, value in os.environ.items() if not name.startswith("STREAMAX_")},
    )
    raise typer.Exit(asyncio.run(run(options, Console())))


@suite.command("sink")
def run_sink(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="RTMP; 0 takes a free one.")] = 1935,
    control: Annotated[int, typer.Option(help="HTTP on loopback, for counters and misbehaviour.")] = 1936,
) -> None:
    """The local ingest alone: an RTMP server that counts, and misbehaves on command."""
    from cli.suite.control import serve

    asyncio.run(serve(host, port, control, Console()))


def main() -> None:
    """The entry point."""
    app(prog_name="streamax")


if __name__ == "__main__":
    main()
