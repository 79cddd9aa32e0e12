from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from perdure_api.documents import DocumentIngestInput, SearchInput
from perdure_api.uri import StoreUri, UriError
from perdure_api.vectors_uri import DatabaseUri, parse_vectors_uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://b/vectors", StoreUri("s3", "b", "vectors")),
        ("postgresql://db/app", DatabaseUri("db", 5432, "app", ("chunks",))),
        (
            "postgresql://DB.example.com:6543/my-app?table=docs",
            DatabaseUri("db.example.com", 6543, "my-app", ("docs",)),
        ),
        ("postgresql://[::1]/app?table=search.docs_2", DatabaseUri("[::1]", 5432, "app", ("search", "docs_2"))),
        ("postgresql://[::1]:5433/app", DatabaseUri("[::1]", 5433, "app", ("chunks",))),
    ],
)
def test_a_uri_is_read_and_written_so_that_it_is_read_the_same(text: str, expected: object) -> None:
    assert parse_vectors_uri(text) == expected
    assert parse_vectors_uri(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "qdrant://h:6333/c",
            r"is no vector store .*; expected a folder .*, or a table for pgvector, such as p",
        ),
        ("postgres://h/db", "write postgresql:// for it"),
        ("postgresql://", "names no host that can be"),
        ("postgresql:///db", "names no host that can be"),
        ("postgresql://a,b/db", "names no host that can be"),
        ("postgresql://h h/db", "names no host that can be"),
        ("postgresql://%2Frun/db", "names no host that can be"),
        ("postgresql://h:0/db", 'the port "0"; write a number from 1 to 65535'),
        ("postgresql://h:65536/db", 'the port "65536"'),
        ("postgresql://h:/db", 'the port ""'),
        ("postgresql://h", "names no database"),
        ("postgresql://h/", "names no database"),
        ("postgresql://h/db/table", 'the database "db/table"'),
        ("postgresql://h/a%20b", 'the database "a%20b"'),
        ("postgresql://h/db?sslmode=disable", 'sets "sslmode"; expected table alone.*PGSSLMODE'),
        ("postgresql://h/db?table=a&sslmode=disable", 'the table "a&sslmode=disable"'),
        ("postgresql://h/db?table=", 'the table ""; write lower-case'),
        ("postgresql://h/db?table=Chunks", 'the table "Chunks"'),
        ("postgresql://h/db?table=a.b.c", 'the table "a.b.c"'),
        ('postgresql://h/db?table=a"; DROP TABLE b; --', "write lower-case letters, digits"),
        (f"postgresql://h/db?table={'a' * 64}", "63 at most"),
        ("postgresql://h/db?table=a#b", 'the table "a#b"'),
    ],
)
def test_what_is_none_is_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(UriError, match=says):
        parse_vectors_uri(text)
    with pytest.raises(ValidationError, match=says):
        SearchInput(text="x", store=text)


@pytest.mark.parametrize(
    "text", ["postgresql://me:hunter2@h/db", "postgresql://h/?password=hunter2", "postgres://me:hunter2@h/db"]
)
def test_a_password_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UriError) as raised:
        parse_vectors_uri(text)

    assert "hunter2" not in str(raised.value)


@given(st.text(max_size=30))
def test_whatever_the_table_is_called_nothing_but_a_plain_name_gets_through(name: str) -> None:
    try:
        uri = parse_vectors_uri(f"postgresql://h/db?table={name}")
    except UriError:
        return
    assert isinstance(uri, DatabaseUri)
    assert set("".join(uri.table)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")


@pytest.mark.parametrize(
    ("given_", "folder"),
    [
        ({"store": "s3://b/v/"}, "s3://b/v/staging"),
        ({"store": "postgresql://h/db"}, "s3://b/docs/_staging"),
        ({"store": "postgresql://h/db", "source": "s3://b/docs/"}, "s3://b/docs/_staging"),
        ({"store": "postgresql://h/db", "source": "s3://b/docs/a.md"}, "s3://b/docs/_staging"),
        ({"store": "postgresql://h/db", "source": "s3://b/a.md"}, "s3://b/_staging"),
        ({"store": "postgresql://h/db", "source": "file:///a.md"}, "file:///_staging"),
        ({"store": "postgresql://h/db", "staging": "s3://c/tmp/"}, "s3://c/tmp"),
        ({"store": "s3://b/v", "staging": "s3://c/tmp"}, "s3://c/tmp"),
    ],
)
def test_what_the_steps_leave_is_below_the_store_or_where_no_document_is_looked_for(
    given_: dict[str, str], folder: str
) -> None:
    wish = DocumentIngestInput(**{"source": "s3://b/docs", "model": "s3://b/m", **given_})

    assert wish.staging_folder == folder
