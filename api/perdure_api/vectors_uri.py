"""URIs of vector stores: a folder for LanceDB, or a table of a PostgreSQL with pgvector."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from perdure_api.uri import SCHEMES, StoreUri, UriError, parse_uri

DATABASE_SCHEME: Final = "postgresql"
PORT: Final = 5432
TABLE: Final = "chunks"
"""Where none is named."""
_EXAMPLE: Final = "postgresql://host/database?table=chunks"
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_PORTS: Final = range(1, 1 << 16)
_DATABASE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_NAME: Final = r"[a-z_][a-z0-9_]{0,62}"
"""As PostgreSQL takes it without quotes, and as long as it keeps it."""
_TABLE: Final = re.compile(rf"{_NAME}(\.{_NAME})?")


@dataclass(frozen=True)
class DatabaseUri:
    """A parsed URI `postgresql://host[:port]/database[?table=[schema.]table]`. It never says who asks."""

    host: str
    """In lower case; an IPv6 address in brackets."""
    port: int
    database: str
    table: tuple[str, ...]
    """Name, or schema and name: lower-case letters, digits and underscores."""

    def __str__(self) -> str:
        """The URI again, which parse_vectors_uri reads as the same."""
        port = "" if self.port == PORT else f":{self.port}"
        return f"{DATABASE_SCHEME}://{self.host}{port}/{self.database}?table={'.'.join(self.table)}"


def parse_vectors_uri(text: str) -> StoreUri | DatabaseUri:
    """The parsed form of a vector store's URI.

    Raises:
        UriError: no store of this kind is spoken to, or it names none. No message repeats what may be a password.
    """
    scheme = text.partition("://")[0]
    if scheme in SCHEMES:
        return parse_uri(text)
    if is_database(text):
        return _database(text)
    if scheme == "postgres":
        raise UriError(f"a vector store's URI starts with postgres://; write {DATABASE_SCHEME}:// for it")
    raise UriError(
        f'"{text}" is no vector store that this version speaks to; expected a folder for LanceDB at s3://, gs://, '
        f"az:// or file://, such as s3://bucket/vectors, or a table for pgvector, such as {_EXAMPLE}"
    )


def is_database(uri: str) -> bool:
    """Whether a vector store's URI is that of a database, and not of a folder."""
    return uri.startswith(f"{DATABASE_SCHEME}://")


def _database(text: str) -> DatabaseUri:
    address, _, query = text.removeprefix(f"{DATABASE_SCHEME}://").partition("?")
    server, _, database = address.partition("/")
    if "@" in text:
        # URIs stand in histories, in logs and on screens.
        raise UriError(
            "a vector store's URI says who asks (there is an @ in it); leave user and password out, the workers take "
            "them from PGUSER and PGPASSWORD of their environment"
        )
    name, _, table = query.partition("=")
    if query and name != "table":
        raise UriError(
            f'a vector store\'s URI sets "{name}"; expected table alone, as in {_EXAMPLE}: everything else about the '
            f"connection is in the workers' environment, as libpq has it (PGSSLMODE)"
        )
    host, port = _host_and_port(text, server)
    if not _DATABASE.fullmatch(database):
        found = f'the database "{database}"' if database else "no database"
        raise UriError(f'"{text}" names {found}; write it with letters, digits, "_", "-" and ".", as in {_EXAMPLE}')
    if query and not _TABLE.fullmatch(table):
        raise UriError(
            f'"{text}" names the table "{table}"; write lower-case letters, digits and "_", 63 at most, and a schema '
            f"before it if need be (schema.table)"
        )
    return DatabaseUri(host.lower(), port, database, tuple((table or TABLE).split(".")))


def _host_and_port(text: str, server: str) -> tuple[str, int]:
    host, separator, port = server.rpartition(":")
    if not separator or port.endswith("]"):
        host, port = server, str(PORT)
    if not _HOST.fullmatch(host):
        raise UriError(f'"{text}" names no host that can be; write {_EXAMPLE}')
    if not _PORT.fullmatch(port) or int(port) not in _PORTS:
        raise UriError(f'"{text}" names the port "{port}"; write a number from 1 to 65535, or leave it out for {PORT}')
    return host, int(port)
