"""Page tokens and sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import PageTokenInvalid
from services.chassis.pages import PageTokens, clamp
from services.chassis.vault import Vault

tokens = PageTokens(Vault([bytes(32)]))


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=50) | st.integers(-(2**53), 2**53),
        max_size=4,
    )
)
def test_a_position_comes_back_as_it_went(position: list[str | int]) -> None:
    assert tokens.decode(tokens.encode(position, scope="s"), scope="s") == position


def test_a_token_fits_into_a_url() -> None:
    for number in range(200):
        token = tokens.encode([number, "x"], scope="s")
        assert token.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("scope", ["ListSessions user-b", "ListUsers user-a", "ListSessions user-a filter"])
def test_a_token_is_good_only_where_it_was_given(scope: str) -> None:
    with pytest.raises(PageTokenInvalid):
        tokens.decode(tokens.encode(["x"], scope="ListSessions user-a"), scope=scope)


@pytest.mark.parametrize("token", ["", "x", "AAAA", "not base64!", "é", "A" * 1000, "=" * 8])
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(PageTokenInvalid):
        tokens.decode(token, scope="s")


def test_a_token_of_another_key_is_refused() -> None:
    foreign = PageTokens(Vault([bytes([1]) * 32])).encode(["x"], scope="s")
    with pytest.raises(PageTokenInvalid):
        tokens.decode(foreign, scope="s")


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (500, 500), (501, 500), (2**31 - 1, 500)])
def test_page_sizes_are_made_sane(asked: int, given: int) -> None:
    assert clamp(asked, default=50, maximum=500) == given
