"""What each service of the suite is configured with."""

from collections.abc import Mapping
from pathlib import Path

from cli.suite.database import Store
from cli.suite.engine import Engine

#: A configuration file's content.
Table = Mapping[str, object]

#: Seals stream keys and signing keys.
VAULT = "vault.key"
#: One folder per user, named by the user's id.
MEDIA = "media"


def users(folder: Path, store: Store) -> Table:
    return {
        "vault_key_file": str(folder / VAULT),
        "database": store.login("streamax_users"),
    }


def streams(folder: Path, store: Store, *, users_address: str, engine: Engine, ingest: str) -> Table:
    """`ingest` is the only place its streams may go: scheme://host:port."""
    return {
        "vault_key_file": str(folder / VAULT),
        "users_address": users_address,
        "destinations": [ingest],
        "database": store.login("streamax_streams"),
        "media": {"root": str(folder / MEDIA)},
        engine.kind: engine.table,
    }
