"""A network of one's own, to be broken at will."""

import asyncio
import ctypes
import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec

import pytest

__all__ = ["in_own_network"]

CLONE_NEWNET = 0x40000000

P = ParamSpec("P")


def in_own_network(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Runs an async test in a thread whose network is a loopback and nothing else.

    Programs it starts are in that network too. Its fixtures are made outside, so
    what shall listen inside is opened by the test itself.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("only root, with iproute2, can make a network of its own")

        def inside() -> None:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            asyncio.run(test(*args, **kwargs))

        # A thread of its own that ends with the test: a namespace belongs to a thread.
        with ThreadPoolExecutor(1, "own network") as thread:
            thread.submit(inside).result()

    return run
