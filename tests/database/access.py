"""What access.txt says may be done, what a live database allows, and where the two differ.

`findings()` is the one check behind the matrix test and the mutation test. It
reads the catalogs and looks through the eyes of each role, all inside the
caller's transaction, so it sees a mutation that will be rolled back.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from services.chassis.migrations import LOGINS
from tests.database.sections import sections
from tests.support.database import Connection, add_user

#: `public` is what anybody may do.
ROLES: Final = ("public", "anon", "authenticated", "service_role", *LOGINS)

_VERBS: Final = {"reads": "SELECT", "inserts": "INSERT", "updates": "UPDATE", "deletes": "DELETE"}
_SQL: Final = sections("access.sql")


@dataclass(frozen=True, slots=True, order=True)
class Privilege:
    """One cell of the matrix."""

    relation: str
    role: str
    verb: str
    #: Empty for verbs that apply to whole rows; `*` for the columns to come.
    column: str


@dataclass(frozen=True, slots=True)
class Sight:
    """Whose rows a role that may read a relation sees."""

    relation: str
    role: str
    #: own, own+admin or all, as access.txt explains them.
    scope: str


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    definer: bool
    roles: frozenset[str]


@dataclass(slots=True)
class Access:
    """The whole of access.txt. A column `*` stands for all of a relation's, and those to come."""

    privileges: set[Privilege] = field(default_factory=set)
    sights: list[Sight] = field(default_factory=list)
    functions: set[Function] = field(default_factory=set)
    #: (schema, role that may use it)
    schemas: set[tuple[str, str]] = field(default_factory=set)
    #: (relation, trigger)
    triggers: set[tuple[str, str]] = field(default_factory=set)
    relations: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Inhabitants:
    """Two users and an administrator, each with one row in everything that a policy guards."""

    one: UUID
    other: UUID
    admin: UUID


def expected() -> Access:
    """Raises ValueError naming the line it cannot read."""
    access = Access()
    section = ""
    lines = Path(__file__).with_name("access.txt").read_text(encoding="utf-8").splitlines()
    for number, raw in enumerate(lines, start=1):
        line = raw.partition("#")[0].rstrip()
        if not line:
            continue
        if not line.startswith(" "):
            section = line
            access.relations |= {line} if "." in line else set()
            continue
        try:
            _take(access, section, line.strip())
        except (KeyError, ValueError) as error:
            raise ValueError(f"access.txt, line {number}: {raw!r}") from error
    return access


def _take(access: Access, section: str, line: str) -> None:
    """One indented line under its section."""
    match section:
        case "functions":
            name, security, *roles = line.split()
            access.functions.add(Function(name, security == "definer", frozenset(roles)))
        case "schemas":
            name, *roles = line.split()
            access.schemas |= {(name, role) for role in roles}
        case "triggers":
            relation, *names = line.split()
            access.triggers |= {(relation, name) for name in names}
        case relation:
            head, _, columns = line.partition(":")
            role, verb, *scope = head.split()
            if verb == "reads":
                access.sights.append(Sight(relation, role, scope[0]))
            named = columns.split() or [""]
            access.privileges |= {Privilege(relation, role, _VERBS[verb], column) for column in named}


async def settle(connection: Connection) -> Inhabitants:
    """Let people move in, and ready the superuser's connection for findings()."""
    one, other, admin = [await add_user(connection, role=role) for role in ("user", "user", "admin")]
    for uid in (one, other, admin):
        await connection.execute(_SQL["belongings"].replace(":uid", f"'{uid}'"))
    await connection.execute(_SQL["ready"])
    return Inhabitants(one, other, admin)


async def findings(connection: Connection, access: Access, people: Inhabitants) -> AsyncIterator[str]:
    """Every way in which the database is not as it should be; none when all is well."""
    for check in (_privileges, _functions, _rest):
        for finding in await check(connection, access):
            yield finding
    for finding in await _seen(connection, access, people):
        yield finding


async def _privileges(connection: Connection, access: Access) -> Iterable[str]:
    columns: dict[str, set[str]] = {}
    for row in await connection.fetch(_SQL["columns"]):
        columns.setdefault(row["relation"], {"*"}).add(row["name"])
    actual = {Privilege(*row.values()) for row in await connection.fetch(_SQL["cells"], list(ROLES))}
    wanted = {
        Privilege(one.relation, one.role, one.verb, column)
        for one in access.privileges
        for column in (columns.get(one.relation, set()) if one.column == "*" else {one.column})
    }
    return [
        *(f"allowed, and should not be: {one}" for one in sorted(actual - wanted)),
        *(f"not allowed, and should be: {one}" for one in sorted(wanted - actual)),
        *(f"relation not in access.txt: {one}" for one in sorted(set(columns) - access.relations)),
        *(f"relation only in access.txt: {one}" for one in sorted(access.relations - set(columns))),
    ]


async def _functions(connection: Connection, access: Access) -> Iterable[str]:
    rows = await connection.fetch(_SQL["functions"], list(ROLES))
    actual = {Function(row["name"], row["definer"], frozenset(row["roles"])) for row in rows}
    return [
        *(f"function should not be so: {one}" for one in actual - access.functions),
        *(f"function should be so: {one}" for one in access.functions - actual),
    ]


async def _rest(connection: Connection, access: Access) -> Iterable[str]:
    """What the catalogs tell besides: ownership, settings, policies as such, schemas, triggers."""
    lints = await connection.fetch(_SQL["lints"], list(LOGINS))
    schemas = await connection.fetch(_SQL["schemas"], list(ROLES))
    triggers = await connection.fetch("SELECT relation, name FROM pg_temp.triggers WHERE enabled")
    usage = {(row["name"], row["role"]) for row in schemas if row["verb"] == "USAGE"}
    creators = [row for row in schemas if row["verb"] == "CREATE"]
    return [
        *(row["finding"] for row in lints),
        *(f"{row['role']} may create in schema {row['name']}" for row in creators),
        *(f"usage of a schema differs: {one}" for one in usage ^ access.schemas),
        *(f"trigger differs: {one}" for one in {tuple(row.values()) for row in triggers} ^ access.triggers),
    ]


async def _seen(connection: Connection, access: Access, people: Inhabitants) -> Iterable[str]:
    """Look at every readable relation through the eyes of whoever may read it, and through nobody's."""
    looks = [
        (sight, viewer, allowed) for sight in access.sights for viewer, allowed in _views(sight.scope, people)
    ]
    rows = await connection.fetch(
        "SELECT place, seen, refusal FROM pg_temp.look($1, $2, $3)",
        [sight.relation for sight, _, _ in looks],
        [sight.role for sight, _, _ in looks],
        [viewer for _, viewer, _ in looks],
    )
    found = []
    for row in rows:
        sight, viewer, allowed = looks[row["place"] - 1]
        if row["refusal"] or set(row["seen"]) != allowed:
            found.append(f"{sight.role} as {viewer} sees {row['refusal'] or row['seen']} of {sight.relation}")
    return found


def _views(scope: str, people: Inhabitants) -> Sequence[tuple[UUID | None, set[UUID]]]:
    """Whose eyes to look through, and whose rows they are to see."""
    everybody = {people.one, people.other, people.admin}
    match scope:
        case "own":
            return [(None, set()), (people.one, {people.one}), (people.admin, {people.admin})]
        case "own+admin":
            return [(None, set()), (people.one, {people.one}), (people.admin, everybody)]
        case "all":
            return [(None, everybody)]
    raise ValueError(scope)
