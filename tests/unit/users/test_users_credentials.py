import asyncio
import os
import threading
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from argon2 import PasswordHasher

from services.chassis.errors import RateLimited
from services.users.config import PasswordConfig
from services.users.credentials import Passwords

CHEAP = PasswordConfig(time_cost=1, memory_kib=8, lanes=1, workers=1, queue=2)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    subject = Passwords(CHEAP)
    yield subject
    subject.close()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Holds up whoever waits for it; open at the end, or a failed test would never let its thread go."""
    event = threading.Event()
    yield event
    event.set()


async def test_password_matches_its_own_hash_only(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse")
    assert await passwords.matches(stored, "correct horse")
    assert not await passwords.matches(stored, "correct horsE")


async def test_hash_is_argon2id_of_the_stated_cost_with_a_salt_of_its_own(passwords: Passwords) -> None:
    first, second = await passwords.hash("correct horse"), await passwords.hash("correct horse")
    assert first.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert first != second


def test_default_cost_is_rfc_9106_for_constrained_memory_with_one_lane() -> None:
    default = PasswordConfig()
    assert (default.time_cost, default.memory_kib, default.lanes) == (3, 64 * 1024, 1)


async def test_password_typed_in_another_normal_form_matches(passwords: Passwords) -> None:
    assert await passwords.matches(await passwords.hash("caf\u00e9 au lait"), "cafe\u0301 au lait")


async def test_unknown_account_costs_a_hash_and_never_matches(passwords: Passwords) -> None:
    with patch.object(PasswordHasher, "verify", autospec=True, side_effect=PasswordHasher.verify) as verify:
        assert not await passwords.matches(None, "correct horse")
    assert verify.call_count == 1


async def test_hash_of_another_cost_is_renewed(passwords: Passwords) -> None:
    dearer = Passwords(PasswordConfig(time_cost=2, memory_kib=16, workers=1))
    stored = await passwords.hash("correct horse")
    renewed = await dearer.renewed(stored, "correct horse")
    assert renewed is not None
    assert "m=16,t=2" in renewed
    assert await dearer.matches(renewed, "correct horse")
    assert await dearer.renewed(renewed, "correct horse") is None
    dearer.close()


async def test_hashings_beyond_the_queue_are_refused_at_once_with_a_time_to_return(
    passwords: Passwords, gate: threading.Event
) -> None:
    waiting = [asyncio.create_task(passwords._run(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited) as refused:
        await passwords.hash("correct horse")
    assert refused.value.metadata == {"limit": "3"}
    assert refused.value.retry_after is not None
    gate.set()
    await asyncio.gather(*waiting)
    assert await passwords.hash("correct horse")


async def test_caller_who_leaves_frees_the_place_in_the_queue(
    passwords: Passwords, gate: threading.Event
) -> None:
    waiting = [asyncio.create_task(passwords._run(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[2].cancel()
    await asyncio.wait(waiting[2:])
    last = asyncio.create_task(passwords.hash("correct horse"))
    gate.set()
    assert await last
    await asyncio.gather(*waiting[:2])


async def test_no_more_threads_hash_than_there_are_workers(gate: threading.Event) -> None:
    passwords = Passwords(PasswordConfig(time_cost=1, memory_kib=8, workers=2, queue=20))
    before = set(threading.enumerate())
    waiting = [asyncio.create_task(passwords._run(gate.wait)) for _ in range(20)]
    await asyncio.sleep(0)
    # The pool starts a thread when work is handed in, not later.
    assert len(set(threading.enumerate()) - before) == 2
    gate.set()
    await asyncio.gather(*waiting)
    passwords.close()


async def test_hashing_threads_step_back_behind_the_event_loop(passwords: Passwords) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert await passwords._run(niceness) > niceness()


async def test_event_loop_turns_while_a_password_is_hashed() -> None:
    passwords = Passwords(PasswordConfig(time_cost=3, memory_kib=65536))
    hashing = asyncio.create_task(passwords.hash("correct horse"))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0.001)
        turns += 1
    # A hash under the interpreter lock would let the loop turn once or twice.
    assert turns > 5
    passwords.close()
