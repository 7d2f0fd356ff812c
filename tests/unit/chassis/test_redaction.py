"""What looks secret is taken out of text; what does not, stays."""

import pytest

from services.chassis.redaction import Secret, scrub

CANARY = "c4n4-ry00-k3y0-0000-test"


@pytest.mark.parametrize(
    "text",
    [
        "cannot open rtmp://a.rtmp.youtube.com/live2/{}",
        "rtmps://b.example:443/app/{}?backup=1 refused",
        "rtmp://u.example/live2/x/{}",
        "url='rtmp://h/app/{}'",
        '"rtmp://h/app/{}"',
        "RuntimeError('rtmp://h/app?key={}')",
        "the key {} was rejected",
        "authorization: Bearer {}",
        "stream_key={}",
        '{{"stream_key": "{}"}}',
        "password: {}",
        "postgresql://streamax_users:{}@localhost/db",
        "refresh_token='{}'",
        "StreamKey = {}",
    ],
)
def test_a_secret_in_any_of_its_usual_places_is_removed(text: str) -> None:
    assert CANARY not in scrub(text.format(CANARY))


def test_a_token_is_removed_wherever_it_stands() -> None:
    token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl-_x"
    assert token.split(".")[1] not in scrub(f"could not verify {token}, sorry")


@pytest.mark.parametrize(
    "text",
    [
        "session 550e8400-e29b-41d4-a716-446655440000 is running",
        "listening on 127.0.0.1:50051",
        "rtmp://a.rtmp.youtube.com/live2 refused the connection",
        "trace 4bf92f3577b34da6a3ce929d0e0e4736",
        "tokens were refreshed",
        "2026-11-22T12:00:00+00:00",
        "/srv/media/550e8400-e29b-41d4-a716-446655440000/loop.mp4",
    ],
)
def test_what_an_operator_needs_stays(text: str) -> None:
    assert scrub(text) == text


def test_the_host_and_application_of_an_address_stay() -> None:
    assert scrub(f"rtmp://h:1935/live2/{CANARY} timed out") == "rtmp://h:1935/live2/*** timed out"


def test_a_secret_prints_as_stars_in_every_way_python_prints() -> None:
    secret = Secret(CANARY)
    printed = [str(secret), repr(secret), f"{secret}", f"{secret!r:>30}", "%s" % secret, repr([secret])]  # noqa: UP031
    assert not [text for text in printed if CANARY in text]
    assert secret.reveal() == CANARY
