"""What cannot be read is refused in one sentence, within bounds, and costs nothing else."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from perdure_documents.chunks import Chunking
from perdure_documents.reader import DocumentReader
from perdure_documents.refusals import Problem, Refused
from tests.documents import samples


@pytest.fixture(scope="module")
def reader() -> Iterator[DocumentReader]:
    reader = DocumentReader()
    yield reader
    reader.close()


def refusal(reader: DocumentReader, name: str, content: bytes) -> Refused:
    with pytest.raises(Refused) as raised:
        reader.chunks(name, content, Chunking())
    assert "\n" not in raised.value.message
    return raised.value


def texts(reader: DocumentReader, name: str, content: bytes) -> str:
    return " ".join(chunk.text for chunk in reader.chunks(name, content, Chunking()))


def bomb() -> bytes:
    """A zip of 10 KB in which 10 MB are."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"0" * 10_000_000)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "problem", "says"),
    [
        ("a.txt", b"", Problem.EMPTY, "is empty"),
        ("a.md", b" \n\t\n", Problem.EMPTY, "is empty"),
        ("a.txt", "\ufeff".encode(), Problem.EMPTY, "is empty"),
        ("a.md", b"---\ntitle: x\n---\n", Problem.EMPTY, "holds no text"),
        ("a.html", b"<html><script>x()</script></html>", Problem.EMPTY, "shows no text"),
        ("a.pdf", samples.pdf(""), Problem.EMPTY, "its 1 pages are pictures, or empty"),
        ("a.txt", b"text\0more", Problem.BINARY, "a NUL byte at byte 4"),
        ("a.txt", "\ufefftext\0".encode("utf-16-le"), Problem.BINARY, "a NUL at character 4"),
        ("a.txt", "naïve".encode("latin-1"), Problem.BROKEN, "is no UTF-8: byte 2 is 0xEF; save it as UTF-8"),
        ("a.html", b"<meta charset=base64>\xff", Problem.BROKEN, "is no UTF-8"),
        ("a.docx", bomb(), Problem.ARCHIVE, "is a zip archive (as .docx"),
        ("a.txt", bomb(), Problem.ARCHIVE, "archives are not opened"),
        ("a.txt.gz", gzip.compress(b"text"), Problem.ARCHIVE, "packed with gzip"),
        ("a.png", b"\x89PNG\r\n", Problem.UNKNOWN_FORMAT, "expected one that ends in .txt, .md, .html or .pdf"),
        ("README", b"text", Problem.UNKNOWN_FORMAT, "a name that tells no format"),
        ("a.pdf", b"text", Problem.BROKEN, "begins with b'text'; expected %PDF-"),
        ("a.pdf", samples.pdf("text")[:150], Problem.BROKEN, "is a broken PDF"),
        ("a.pdf", b"%PDF-1.7\n" + os.urandom(2000), Problem.BROKEN, "is a broken PDF"),
        ("a.pdf", samples.encrypted(samples.pdf("secret"), "pw"), Problem.ENCRYPTED, "opens with a password only"),
        ("a.txt", b"x" * (33 << 20), Problem.TOO_LARGE, "expected at most 33554432"),
    ],
    ids=[
        "empty", "blank", "only a byte order mark", "only front matter", "html without text", "pictures in a pdf",
        "NUL bytes", "NUL in UTF-16", "latin-1", "html in no charset", "docx", "zip bomb", "gzip", "picture", "no end",
        "text called pdf", "pdf cut off", "pdf of noise", "encrypted pdf", "33 MB",
    ],
)  # fmt: skip
def test_a_bad_document_is_refused_in_one_sentence(
    reader: DocumentReader, name: str, content: bytes, problem: Problem, says: str
) -> None:
    refused = refusal(reader, name, content)

    assert refused.problem is problem
    assert says in refused.message


def test_a_pdf_that_only_its_printing_is_locked_of_is_read(reader: DocumentReader) -> None:
    assert texts(reader, "a.pdf", samples.encrypted(samples.pdf("Open to all"), "")) == "Open to all"


def test_html_nested_a_hundred_thousand_deep_is_read(reader: DocumentReader) -> None:
    assert texts(reader, "a.html", b"<div><b>" * 100_000 + b"the core" + b"</b></div>" * 100_000) == "the core"


def test_html_whose_entities_would_grow_to_gigabytes_is_read_as_it_stands(reader: DocumentReader) -> None:
    lol = '<!DOCTYPE lolz [<!ENTITY lol "lol">' + "".join(
        f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10}">' for n in range(1, 10)
    )

    assert "lol9" in texts(reader, "a.html", f"{lol}]><p>&lol9;</p>".encode())
    assert texts(reader, "a.html", b"<p>a&#" + b"9" * 100_000 + b";b &#0; &#x110000;") == "a\ufffdb \ufffd \ufffd"


def test_markdown_nested_ten_thousand_deep_ends(reader: DocumentReader) -> None:
    assert "deep" in texts(
        reader, "a.md", b"> " * 10_000 + b"deep\n\n" + b"[" * 10_000 + b"\n" + b"* " * 2_000 + b"deep"
    )


def test_a_pdf_that_unfolds_to_a_hundred_megabytes_is_refused(reader: DocumentReader) -> None:
    twice = zlib.compress(zlib.compress(b" " * 100_000_000, 1), 1)
    document = samples.pdf(content=twice).replace(b"/Filter/FlateDecode", b"/Filter[/FlateDecode /FlateDecode]")

    refused = refusal(reader, "a.pdf", document)

    assert (len(document) < 100_000, refused.problem) == (True, Problem.TOO_LARGE)


def test_a_document_that_takes_too_much_memory_is_refused_and_the_next_one_read() -> None:
    small = DocumentReader(memory_bytes=100 << 20)

    refused = refusal(small, "a.txt", b"a " * 700_000)

    assert (refused.problem, refused.message) == (
        Problem.TOO_LARGE,
        "takes more memory to read than is given; cut it into several",
    )
    assert texts(small, "b.txt", b"goes on") == "goes on"
    small.close()


def test_a_document_that_takes_too_long_is_refused_and_the_next_one_read() -> None:
    reader = DocumentReader(seconds=0.0)
    slow = refusal(reader, "a.txt", b"text")
    reader._seconds = 60.0

    assert slow.problem is Problem.TOO_SLOW
    assert texts(reader, "b.txt", b"goes on") == "goes on"
    reader.close()


def test_the_child_that_reads_knows_no_credentials(reader: DocumentReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    mine = DocumentReader()
    assert texts(mine, "b.txt", b"text") == "text"
    assert mine._child

    assert b"a-secret" not in Path(f"/proc/{mine._child.pid}/environ").read_bytes()
    mine.close()


def test_mixed_languages_and_declared_encodings_are_read(reader: DocumentReader) -> None:
    mixed = "English, 日本語、العربية, हिन्दी, 👩‍👩‍👧 and ελληνικά."

    assert texts(reader, "a.txt", mixed.encode()) == mixed
    assert texts(reader, "a.txt", b"\xff\xfe" + mixed.encode("utf-16-le")) == mixed
    assert texts(reader, "a.html", '<meta charset="koi8-r"><p>Привет'.encode("koi8-r")) == "Привет"
