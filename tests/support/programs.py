"""Programs that tests of the chassis start as processes: `python -m tests.support.programs NAME …`."""

import asyncio
import logging
import os
import sys
import warnings
from functools import partial
from typing import Any

import orjson

from services.chassis import deadline, logs, process, telemetry
from services.chassis.channel import ChannelConfig, open_channel
from services.chassis.database import Database, DatabaseConfig
from services.chassis.layers.call import Context
from services.chassis.leader import lead
from services.chassis.process import Worker
from services.chassis.redaction import Secret
from tests.support.probe import Answer, Probe, ProbeStub, serving


def say(**fields: Any) -> None:
    """One line for the test that started us."""
    sys.stdout.buffer.write(orjson.dumps(fields) + b"\n")
    sys.stdout.buffer.flush()


async def lead_and_say(url: str) -> None:
    """Says `leading` with each epoch."""

    async def work(epoch: int) -> None:
        say(leading=epoch, pid=os.getpid())
        await asyncio.Event().wait()

    async with Database(DatabaseConfig(url=url, pool_min=1), application_name="test leader") as db:
        await lead(db, "test", work)


async def serve_pid(port: int, worker: Worker) -> None:
    """Answers every call with the process's id; "crash" ends the process."""

    async def pid(request: Any, _: Context) -> Any:
        if request.text == "crash":
            os._exit(3)
        return Answer(text=str(os.getpid()))

    async with serving(Probe(one_one=pid), port=port, reuse_port=worker.reuse_port) as served:
        worker.ready(served.server.address)
        await worker.stopping.wait()
    say(stopped=os.getpid())


async def fail(worker: Worker) -> None:
    """Fails before it is ready, with a secret in the error."""
    raise ValueError("no such thing as rtmp://host/app/canary-key")


async def ignore_stop(worker: Worker) -> None:
    """Is told to stop and does not; says so when it is cancelled."""
    worker.ready("nowhere")
    try:
        await asyncio.Event().wait()
    finally:
        say(cancelled=os.getpid())


async def deaf(worker: Worker) -> None:
    """Not even cancelling ends it."""
    worker.ready("nowhere")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


async def serve_traced(upstream: str | None) -> None:
    """Serves with telemetry on, calling an upstream of the same kind if given; ends at end of input."""
    shutdown = telemetry.configure("front" if upstream else "back")

    async def relay(request: Any, _: Context) -> Any:
        if upstream is None:
            return Answer(text=f"{deadline.remaining()}")
        async with open_channel(ChannelConfig(target=upstream)) as channel:
            return await ProbeStub(channel).OneOne(request)

    async with serving(Probe(one_one=relay)) as served:
        say(address=served.server.address)
        await asyncio.to_thread(sys.stdin.read)
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.to_thread(shutdown)
        say(shutdown_seconds=loop.time() - before)


def log_secrets() -> None:
    """Logs a canary in every way that text gets into a log."""
    logs.configure("talkative")
    log, canary = logging.getLogger("test.secrets"), "c4n4-ry00-k3y0-0000-test"
    address = f"rtmp://host/app/{canary}"
    log.info("pushing to %s", address)
    log.info("a field", extra={"detail": f"stream_key={canary}", "nested": {"list": [address]}})
    log.info("an object", extra={"object": Secret(canary), "count": 3, "nothing": None, "yes": True})
    warnings.warn(f"password={canary}", stacklevel=1)
    try:
        raise ValueError(address)
    except ValueError:
        log.exception("failed at %s", address)


def main(name: str, *arguments: str) -> int:
    match name, arguments:
        case "lead", [url]:
            logs.configure("leader")
            asyncio.run(lead_and_say(url))
        case "serve", [port, workers]:
            logs.configure("served")
            return process.run(partial(serve_pid, int(port)), workers=int(workers))
        case "fail", [workers]:
            logs.configure("failing")
            return process.run(fail, workers=int(workers))
        case "ignore-stop", [workers]:
            logs.configure("stuck")
            return process.run(ignore_stop, workers=int(workers))
        case "deaf", [workers]:
            logs.configure("deaf")
            return process.run(deaf, workers=int(workers), stop_within=1.0)
        case "log-secrets", []:
            log_secrets()
        case "serve-traced", rest:
            asyncio.run(serve_traced(*rest or (None,)))
        case _:
            raise SystemExit(f"no program {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
