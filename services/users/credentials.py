"""Passwords: argon2id, in a bounded pool of its own.

Cost: 64 MiB, three passes, one lane: RFC 9106's choice for memory-constrained machines, with
one lane where the RFC says four. Lanes are threads, and four for each sign-in would take the
machine from every other RPC, while an attacker hashing in bulk gains nothing from fewer.
0.16 s and 64 MiB per hash on the two-core machine this was measured on.
"""

import asyncio
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

import argon2
from argon2.exceptions import VerifyMismatchError

from services.chassis.errors import RateLimited
from services.users.config import PasswordConfig
from services.users.model import normalise_password

#: How much nicer the hashing threads are than the rest of the process. Linux schedules threads, not
#: processes, so the event loop keeps its share even when every core is hashing.
_STEP = 10

_T = TypeVar("_T")


class Passwords:
    """Hashes and compares passwords; argon2 runs outside the interpreter lock.

    Every method that hashes raises RateLimited, at once, when `config.queue` others already
    wait: a queue without a bound would answer long after every caller's deadline.
    """

    def __init__(self, config: PasswordConfig) -> None:
        self._config = config
        self._argon2 = argon2.PasswordHasher(
            time_cost=config.time_cost, memory_cost=config.memory_kib, parallelism=config.lanes
        )
        self._pool = ThreadPoolExecutor(config.workers, thread_name_prefix="argon2", initializer=_step_back)
        self._pending = 0
        # What an unknown account's password is compared with, so that the answer takes as long.
        self._stand_in = self._argon2.hash(secrets.token_bytes(32))

    async def hash(self, password: str) -> str:
        """The PHC string to be stored."""
        return await self._run(lambda: self._argon2.hash(normalise_password(password)))

    async def matches(self, stored: str | None, password: str) -> bool:
        """Whether the password belongs to the stored hash; None, after the same work, does not."""
        same = await self._run(lambda: self._same(stored or self._stand_in, password))
        return same and stored is not None

    async def renewed(self, stored: str, password: str) -> str | None:
        """A hash of today's cost for a password that matched one of another cost, else None."""
        return await self.hash(password) if self._argon2.check_needs_rehash(stored) else None

    def close(self) -> None:
        """Forget the hashings that have not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], _T]) -> _T:
        limit = self._config.workers + self._config.queue
        if self._pending >= limit:
            raise RateLimited(retry_after=timedelta(seconds=1), metadata={"limit": str(limit)})
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._pending -= 1

    def _same(self, stored: str, password: str) -> bool:
        try:
            return self._argon2.verify(stored, normalise_password(password))
        except VerifyMismatchError:
            return False


def _step_back() -> None:
    thread = threading.get_native_id()
    # Relative to the process: going below a niceness it was given would take a privilege.
    niceness = os.getpriority(os.PRIO_PROCESS, thread) + _STEP
    os.setpriority(os.PRIO_PROCESS, thread, min(niceness, 19))
