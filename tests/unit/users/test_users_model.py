from datetime import UTC, datetime, timedelta
from uuid import uuid4

from services.users.model import Credentials, Tokens, normalise_email, normalise_password


def test_one_address_has_one_spelling() -> None:
    assert normalise_email(" Ada@Example.COM ") == "ada@example.com"
    assert normalise_email("ade\u0301@example.com") == normalise_email("ad\u00e9@example.com")


def test_password_is_the_same_from_any_keyboard_but_keeps_case_and_spaces() -> None:
    assert normalise_password("cafe\u0301 ") == "caf\u00e9 "
    assert normalise_password(" Passw\u00f6rd") != normalise_password("passw\u00f6rd")


def test_secrets_are_not_in_the_text_of_what_holds_them() -> None:
    tokens = Tokens(access_token="canary-a", expires_in=timedelta(hours=1), refresh_token="canary-b")
    credentials = Credentials(user_id=uuid4(), password_hash="canary-c", changed_at=datetime.now(UTC))
    assert "canary" not in repr(tokens) + repr(credentials)
