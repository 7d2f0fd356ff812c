"""What is printed for people to paste."""

import shlex

from cli.suite.introduction import Call, Part, parts, shell


def test_parts_say_what_is_embedded() -> None:
    lines = list(parts([Part("database", True, "PostgreSQL"), Part("runtime", False, "Docker")]))
    assert [line.split(maxsplit=2) for line in lines] == [
        ["database", "embedded", "PostgreSQL"],
        ["runtime", "real", "Docker"],
    ]


def test_calls_carry_their_token_by_name_and_their_request_as_one_word() -> None:
    request = """{"password": "it's $HOME `here`"}"""
    token, buf, grpcurl = shell({"TOKEN": "abc"}, [Call("127.0.0.1:1", "a.B/C", request, token="TOKEN")])
    assert token == "TOKEN=abc"
    for line in (buf, grpcurl):
        words = shlex.split(line)
        assert "authorization: Bearer $TOKEN" in words
        assert request in words
    assert shlex.split(buf)[-1] == "http://127.0.0.1:1/a.B/C"
    assert shlex.split(grpcurl)[-2:] == ["127.0.0.1:1", "a.B/C"]


def test_public_method_is_called_without_a_token() -> None:
    assert not any("authorization" in line for line in shell({}, [Call("127.0.0.1:1", "a.B/C")]))
