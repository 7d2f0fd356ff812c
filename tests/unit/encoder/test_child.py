import signal

from encoder.child import Escalation


def test_signals_become_due_one_after_another() -> None:
    steps = Escalation(100.0, first=3.0, second=2.0)
    assert steps.take(100.0) == [signal.SIGTERM]
    assert steps.next == 103.0
    assert steps.take(102.9) == []
    assert steps.take(103.0) == [signal.SIGTERM]
    assert steps.take(105.0) == [signal.SIGKILL]
    assert steps.next is None
    assert steps.take(999.0) == []


def test_a_late_look_takes_all_that_is_due() -> None:
    steps = Escalation(0.0, first=3.0, second=2.0)
    assert steps.take(60.0) == [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL]
