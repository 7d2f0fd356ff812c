"""Destinations: what is accepted has one spelling, what is refused says so without the key."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import InvalidField
from services.streams.destination import Allowlist, Destination

CANARY = "canary-7f3a-9c1e-stream-key"

ALLOWED = Allowlist.parse(
    [
        "rtmp://*.rtmp.youtube.com:1935",
        "rtmps://*.rtmps.youtube.com:443",
        "rtmp://ingest.example:1935",
        "rtmps://ingest.example:443",
        "rtmp://127.0.0.1:19350",
        "rtmp://[2001:db8::1]:1935",
    ]
)


def destination(rtmp_url: str, stream_key: str = "") -> Destination:
    return Destination.parse(rtmp_url, stream_key, allowed=ALLOWED)


def refused(rtmp_url: str, stream_key: str = "abcd-1234") -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        destination(rtmp_url, stream_key)
    return caught.value


def everything_said(error: BaseException) -> str:
    """All texts a refusal could carry the key in, its causes and contexts included."""
    said = []
    link: BaseException | None = error
    while link is not None:
        said.append(f"{link!s} {link!r} {vars(link)!r}")
        link = link.__cause__ or link.__context__
    return " ".join(said)


def test_key_given_apart_leaves_the_url_as_the_app() -> None:
    found = destination("rtmp://a.rtmp.youtube.com/live2", "abcd-1234")
    assert found == Destination(
        scheme="rtmp", host="a.rtmp.youtube.com", port=1935, app="live2", key="abcd-1234"
    )
    assert found.public_url == "rtmp://a.rtmp.youtube.com/live2"


def test_key_at_the_end_of_the_url_is_the_key_and_not_public() -> None:
    found = destination(f"rtmps://a.rtmps.youtube.com:443/live2/{CANARY}")
    assert (found.app, found.key) == ("live2", CANARY)
    assert found.public_url == "rtmps://a.rtmps.youtube.com/live2"
    assert CANARY not in repr(found)


def test_key_given_twice_does_not_stay_in_the_public_url() -> None:
    found = destination(f"rtmp://ingest.example/live/{CANARY}", CANARY)
    assert found == destination("rtmp://ingest.example/live", CANARY)
    assert CANARY not in found.public_url


def test_public_url_and_key_mean_the_same_destination_again() -> None:
    found = destination("rtmp://ingest.example/live/x/x", "x")
    assert found.app == "live"
    assert destination(found.public_url, found.key) == found


def test_key_equal_to_the_only_app_leaves_the_app() -> None:
    assert destination("rtmp://ingest.example/live", "live").app == "live"


def test_port_that_is_not_the_default_stays_in_the_public_url() -> None:
    assert destination("rtmp://127.0.0.1:19350/live", "k").public_url == "rtmp://127.0.0.1:19350/live"


@pytest.mark.parametrize(
    "spelling",
    [
        "RTMP://Ingest.Example/live",
        "rtmp://ingest.example:1935/live",
        "rtmp://ingest.example/live/",
        "rtmps://ingest.example/live",
        "rtmps://INGEST.example:443/live/",
    ],
)
def test_identity_is_one_for_every_spelling_of_one_ingest(spelling: str) -> None:
    assert (
        destination(spelling, "k1").identity() == destination("rtmp://ingest.example/live", "k1").identity()
    )


def test_identity_is_one_for_all_hosts_of_a_provider() -> None:
    identities = {
        destination(url, "abcd-1234").identity()
        for url in (
            "rtmp://a.rtmp.youtube.com/live2",
            "rtmp://b.rtmp.youtube.com/live2",
            "rtmps://a.rtmps.youtube.com/live2",
            "rtmp://x.rtmp.youtube.com/live2/",
        )
    }
    assert len(identities) == 1


def test_identity_differs_by_key_by_app_and_by_port() -> None:
    identities = [
        destination(url, key).identity()
        for url, key in (
            ("rtmp://ingest.example/live", "k1"),
            ("rtmp://ingest.example/live", "k2"),
            ("rtmp://ingest.example/live", "K1"),
            ("rtmp://ingest.example/other", "k1"),
            ("rtmp://127.0.0.1:19350/live", "k1"),
        )
    ]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("", "is not an address"),
        ("live2", "is not an address"),
        ("rtmp:/ingest.example/live", "is not an address"),
        ("//ingest.example/live", "is not an address"),
        ("http://ingest.example/live", "must begin with rtmp:// or rtmps://"),
        ("https://ingest.example/live", "must begin with"),
        ("file:///etc/passwd", "must begin with"),
        ("srt://ingest.example/live", "must begin with"),
        ("rtmpt://ingest.example/live", "must begin with"),
        ("concat://ingest.example/live", "must begin with"),
        ("rtmp://user:pass@ingest.example/live", "user name or password"),
        ("rtmp://ingest.example@169.254.169.254/live", "user name or password"),
        ("rtmp://ingest.example/live?a=1", "query or fragment"),
        ("rtmp://ingest.example?/live", "query or fragment"),
        ("rtmp://ingest.example#/live", "query or fragment"),
        ("rtmp://ingest.example/live#x", "query or fragment"),
        ("rtmp://ingest.example", "lacks the application"),
        ("rtmp://ingest.example/", "lacks the application"),
        ("rtmp:///live", "needs a host name"),
        ("rtmp://:1935/live", "needs a host name"),
        ("rtmp://ingest.example:/live", "needs a host name"),
        ("rtmp://ingest.example:0/live", "port from 1 to 65535"),
        ("rtmp://ingest.example:65536/live", "port from 1 to 65535"),
        ("rtmp://ingest.example:01935/live", "port from 1 to 65535"),
        ("rtmp://ingest.example:+1935/live", "port from 1 to 65535"),
        ("rtmp://ingest.example:1935:1935/live", "port from 1 to 65535"),
        ("rtmp://ingest..example/live", "needs a host name"),
        ("rtmp://ingest.example./live", "needs a host name"),
        ("rtmp://-ingest.example/live", "needs a host name"),
        ("rtmp://ingest_.example/live", "needs a host name"),
        ("rtmp://ingest%2eexample/live", "needs a host name"),
        ("rtmp://" + "a" * 64 + ".example/live", "needs a host name"),
        ("rtmp://[::1/live", "needs a host name"),
        ("rtmp://[]/live", "needs a host name"),
        ("rtmp://[fe80::1%25eth0]/live", "needs a host name"),
        ("rtmp://ingest.example/live 2", "no spaces"),
        ("rtmp://ingest.example/live\n", "no spaces"),
        ("rtmp://ingest.example/live\x00", "no spaces"),
        ("rtmp://ingést.example/live", "ASCII"),
        ("rtmp://ingest.example/live" + "a" * 2048, "longer than 2048"),
    ],
)
def test_malformed_url_is_refused_with_the_remedy(url: str, remedy: str) -> None:
    error = refused(url)
    assert [one.field for one in error.fields] == ["rtmp_url"]
    assert remedy in error.message


@pytest.mark.parametrize(
    "path",
    [
        "/live|file:x.flv",
        "/live/[f=flv]file:x",
        "/live]",
        "/a//b",
        "//live",
        "/live//",
        "/../live",
        "/live/..",
        "/live/.",
        "/a..b",
        "/.hidden",
        "/-rtmp_playpath",
        "/live\\x",
        "/live%2f..",
        "/live;x",
        "/live:x",
        "/live,x",
        "/live'x",
        '/live"x',
        "/live$x",
        "/live`x`",
        "/live@x",
        "/live=x",
    ],
)
def test_path_with_anything_but_plain_segments_is_refused(path: str) -> None:
    error = refused(f"rtmp://ingest.example{path}")
    assert [one.field for one in error.fields] == ["rtmp_url"]
    assert "has a path of other than" in error.message


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "[::1]",
        "[fd00::1]",
        "evil.example",
        "ingest.example.evil.example",
        "notingest.example",
        "sub.ingest.example",
        "rtmp.youtube.com",
        "evilrtmp.youtube.com",
        "a.rtmp.youtube.com.evil.example",
        "ingest.example:22",
        "ingest.example:443",
        "a.rtmp.youtube.com:19350",
        "127.0.0.1:19351",
    ],
)
def test_destination_that_is_not_listed_is_refused_naming_what_is(host: str) -> None:
    error = refused(f"rtmp://{host}/live")
    assert [one.field for one in error.fields] == ["rtmp_url"]
    assert "rtmp://*.rtmp.youtube.com:1935" in error.message


@pytest.mark.parametrize(
    "host",
    [
        "2130706433:19350",
        "0x7f000001:19350",
        "0X7F.1:19350",
        "017700000001:19350",
        "0177.0.0.1:19350",
        "127.1:19350",
        "127.0.1:19350",
        "127.0.0.1.:19350",
        "127.0.0.01:19350",
        "127.0.0.256:19350",
        "127.0.0.0x1:19350",
        "[::ffff:127.0.0.1]:19350",
        "[::ffff:7f00:1]:19350",
        "[0:0:0:0:0:ffff:7f00:1]:19350",
    ],
)
def test_other_spellings_of_a_listed_address_are_refused(host: str) -> None:
    assert (
        "needs a host name, or an IP address in its usual spelling" in refused(f"rtmp://{host}/live").message
    )


def test_ipv6_spellings_of_a_listed_address_are_one() -> None:
    long = destination("rtmp://[2001:0DB8:0:0:0:0:0:1]/live", "k")
    assert long == destination("rtmp://[2001:db8::1]:1935/live", "k")
    assert long.public_url == "rtmp://[2001:db8::1]/live"


@pytest.mark.parametrize(
    "key",
    [
        "-abcd",
        "ab cd",
        "ab/cd",
        "ab|cd",
        "ab?cd",
        "ab%20",
        "ab.cd",
        "ab\ncd",
        " abcd",
        "abcd\n",
        "ключ",
        "a" * 513,
    ],
)
def test_key_outside_its_charset_is_refused(key: str) -> None:
    error = refused("rtmp://ingest.example/live", key)
    assert [one.field for one in error.fields] == ["stream_key"]
    assert key.strip() not in error.message


def test_missing_key_is_a_fault_of_stream_key() -> None:
    error = refused("rtmp://ingest.example/live", "")
    assert [one.field for one in error.fields] == ["stream_key"]


def test_url_ending_in_no_key_is_a_fault_of_the_url() -> None:
    error = refused("rtmp://ingest.example/live/v1.0", "")
    assert [one.field for one in error.fields] == ["rtmp_url"]


@pytest.mark.parametrize(
    ("url", "key"),
    [
        (CANARY, ""),
        (CANARY, CANARY),
        (f"rtmp://{CANARY}", ""),
        (f"rtmp://{CANARY}/live", CANARY),
        (f"rtmp://{CANARY}@ingest.example/live", CANARY),
        (f"rtmp://[{CANARY}]/live", CANARY),
        (f"rtmp://127.0.0.{CANARY}/live", CANARY),
        (f"rtmp://{CANARY}.1/live", CANARY),
        (f"{CANARY}://ingest.example/live", CANARY),
        (f"rtmp://evil.example/live/{CANARY}", ""),
        (f"rtmp://ingest.example/live/{CANARY}?x", ""),
        (f"rtmp://ingest.example/live/{CANARY}.x", ""),
        (f"rtmp://ingest.example/live/{CANARY} ", ""),
        (f"rtmp://ingest.example/{CANARY}", ""),
        ("rtmp://ingest.example/live", f"{CANARY} "),
        ("rtmp://ingest.example", CANARY),
    ],
)
def test_refusal_never_says_the_key(url: str, key: str) -> None:
    assert CANARY not in everything_said(refused(url, key))


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "ingest.example",
        "http://ingest.example",
        "rtmp://",
        "rtmp://*",
        "rtmp://*.",
        "rtmp://*.*.example",
        "rtmp://a.*.example",
        "rtmp://*.10.0.0.1",
        "rtmp://*.[::1]",
        "rtmp://[::ffff:10.0.0.1]",
        "rtmp://0177.0.0.1",
        "rtmp://ingest.example/live",
        "rtmp://ingest.example:0",
        "rtmp://ingest.example:99999",
        "rtmp://ingest.example:*",
        "RTMP://ingest.example",
    ],
)
def test_pattern_that_names_no_place_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        Allowlist.parse(["rtmp://ingest.example", pattern])


def test_pattern_without_port_means_the_default_one() -> None:
    listed = Allowlist.parse(["rtmp://ingest.example", "rtmps://*.ingest.example"])
    assert str(listed) == "rtmp://ingest.example:1935, rtmps://*.ingest.example:443"
    assert listed.admits("rtmps", "a.b.ingest.example", 443)
    assert not listed.admits("rtmps", "ingest.example", 443)
    assert not listed.admits("rtmp", "a.ingest.example", 443)


def test_empty_list_admits_nothing() -> None:
    with pytest.raises(InvalidField):
        Destination.parse("rtmp://ingest.example/live", "k", allowed=Allowlist.parse([]))


#: URL-like texts: far more often nearly right than arbitrary ones are.
SIGNS = [*":/@?#.-|[]%\\ \n", "://", "//", ".."]
HOSTS = ["ingest.example", "a.rtmp.youtube.com", "127.0.0.1", "::1", ":1935", ":443", ":19350"]
PARTS = ["rtmp", "rtmps", "/live2", "/abcd-1234", "live2", "abcd-1234", "%2e"]
PIECES = st.lists(st.sampled_from([*SIGNS, *HOSTS, *PARTS]), max_size=12).map("".join)
URLS = st.one_of(st.text(), PIECES, PIECES.map("rtmp://ingest.example".__add__))
KEYS = st.one_of(
    st.sampled_from(["", "live2", "abcd-1234"]),
    st.text(max_size=20),
    st.text(string.ascii_letters + string.digits + "-_.", max_size=20),
)


@given(URLS, KEYS)
def test_any_text_is_accepted_in_canonical_form_or_refused_by_field(rtmp_url: str, stream_key: str) -> None:
    try:
        found = destination(rtmp_url, stream_key)
    except InvalidField as refusal:
        fields = {one.field for one in refusal.fields}
        if fields in ({"rtmp_url"}, {"stream_key"}):
            return
        raise
    assert ALLOWED.admits(found.scheme, found.host, found.port)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", found.key)
    assert re.fullmatch(r"rtmps?://[a-z0-9.:\[\]-]+(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+", found.public_url)
    assert ".." not in found.public_url
    again = destination(found.public_url, found.key)
    assert again == found
    assert again.identity() == found.identity()


@given(st.lists(st.one_of(st.text(), PIECES), max_size=3))
def test_any_pattern_is_parsed_or_a_value_error(patterns: list[str]) -> None:
    try:
        listed = Allowlist.parse(patterns)
    except ValueError:
        return
    assert Allowlist.parse(str(listed).split(", ") if patterns else []) == listed
