"""python -m services users|streams --config FILE
python -m services migrate [--status] [--role-password-file ROLE=FILE …] --database-url URL
python -m services check users|streams --config FILE
"""

import argparse
import asyncio
import importlib
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from services.chassis import config, logs, process
from services.chassis.database import Database, DatabaseConfig, UnprotectedTables
from services.chassis.errors import Unavailable
from services.chassis.redaction import scrub

SERVICES = ("users", "streams")


class ServiceConfig(Protocol):
    """What this file needs to know of any service's configuration."""

    @property
    def database(self) -> DatabaseConfig: ...
    @property
    def workers(self) -> int: ...


class ServiceMain(Protocol):
    """`services.<name>.main`."""

    CONFIG: type[ServiceConfig]
    serve: Callable[[Any, process.Worker], Coroutine[Any, Any, None]]


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    given = _parser().parse_args(arguments)
    try:
        status: int = given.act(given)
    except config.ConfigRefused as error:
        sys.stderr.write(f"configuration refused: {error}\n")
        return 2
    return status


def _serve(given: argparse.Namespace) -> int:
    logs.configure(given.service)
    service = _service(given.service)
    loaded = config.load(service.CONFIG, given.config)
    return process.run(partial(_work, given.service, service, loaded), workers=loaded.workers)


async def _work(name: str, service: ServiceMain, loaded: ServiceConfig, worker: process.Worker) -> None:
    # Here and not before: the exporter's threads and channel would not survive a fork.
    from services.chassis import telemetry

    shutdown = telemetry.configure(name)
    try:
        await service.serve(loaded, worker)
    finally:
        await asyncio.to_thread(shutdown)


def _migrate(given: argparse.Namespace) -> int:
    from services.chassis import migrations

    url = given.database_url or config.environment().database_url
    if url is None:
        raise config.ConfigRefused("migrate needs --database-url or STREAMAX_DATABASE_URL")
    logs.configure("migrate")
    if given.status:
        asyncio.run(_print_status(url))
        return 0
    asyncio.run(migrations.migrate(url))
    for role, file in given.role_password_file:
        asyncio.run(migrations.set_role_password(url, role, file))
    return 0


async def _print_status(url: str) -> None:
    from services.chassis import migrations

    for step in await migrations.status(url):
        when = step.applied_at.isoformat(timespec="seconds") if step.applied_at else ""
        sys.stdout.write(f"{step.state:8} {step.name} {when}".rstrip() + "\n")


def _role_password_file(text: str) -> tuple[str, Path]:
    role, separator, file = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("write ROLE=FILE")
    return role, Path(file)


def _check(given: argparse.Namespace) -> int:
    loaded = config.load(_service(given.service).CONFIG, given.config)
    sys.stdout.write(f"{given.service}: the configuration is complete\n")
    try:
        asyncio.run(_check_database(given.service, loaded))
    except (Unavailable, UnprotectedTables) as error:
        detail = error.private if isinstance(error, Unavailable) else ""
        sys.stderr.write(f"{given.service}: {scrub(f'{error} {detail}'.strip())}\n")
        return 1
    sys.stdout.write(f"{given.service}: the database answers and every table has row-level security\n")
    return 0


async def _check_database(name: str, loaded: ServiceConfig) -> None:
    async with Database(loaded.database, application_name=f"{name} check") as db:
        await db.check()
        await db.refuse_unprotected_tables()


def _service(name: str) -> ServiceMain:
    # Imported by name, when asked for: a machine that runs one service need not be able to run another.
    return cast(ServiceMain, importlib.import_module(f"services.{name}.main"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services", description="StreamAX's services.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in SERVICES:
        command = commands.add_parser(name, help=f"serve {name}")
        command.add_argument("--config", type=Path, metavar="FILE")
        command.set_defaults(act=_serve, service=name)
    migrate = commands.add_parser("migrate", help="bring the database up to date")
    migrate.add_argument("--database-url", metavar="URL", help="default: STREAMAX_DATABASE_URL")
    migrate.add_argument("--status", action="store_true", help="only say what is applied and what is pending")
    migrate.add_argument(
        "--role-password-file",
        type=_role_password_file,
        action="append",
        default=[],
        metavar="ROLE=FILE",
        help="let a service's role log in with the password in the file's first line",
    )
    migrate.set_defaults(act=_migrate)
    check = commands.add_parser("check", help="load a configuration, connect, say what is wrong")
    check.add_argument("service", choices=SERVICES)
    check.add_argument("--config", type=Path, metavar="FILE")
    check.set_defaults(act=_check)
    return parser


if __name__ == "__main__":
    sys.exit(main())
