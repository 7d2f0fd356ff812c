from hypothesis import given
from hypothesis import strategies as st

from encoder.report import Cause, LogLine, Report, State, parse

finite = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | finite
reports = st.builds(
    Report,
    at=finite,
    attempt=st.integers(),
    state=st.sampled_from(State),
    cause=st.none() | st.sampled_from(Cause),
    detail=st.text(),
    first_media_at=maybe,
    last_media_at=maybe,
    delivered_seconds=finite,
    retry_at=maybe,
)
logs = st.builds(LogLine, at=finite, attempt=st.integers(), text=st.text())


@given(reports | logs)
def test_what_is_written_is_read(record: Report | LogLine) -> None:
    assert parse(record.to_line()) == record
    assert "\n" not in record.to_line()


@given(reports, st.data())
def test_a_torn_line_is_nothing(report: Report, data: st.DataObject) -> None:
    line = report.to_line()
    cut = data.draw(st.integers(0, len(line) - 1))
    assert parse(line[:cut]) is None


@given(st.binary() | st.text())
def test_a_foreign_line_is_nothing(line: str | bytes) -> None:
    assert parse(line) is None
