"""Identifiers."""

import time
import uuid

from services.chassis.identifiers import new_id


def test_an_identifier_is_a_uuid_of_version_7() -> None:
    made = new_id()
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_identifiers_carry_the_time_they_were_made() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= new_id().int >> 80 <= time.time_ns() // 1_000_000


def test_identifiers_do_not_repeat() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000
