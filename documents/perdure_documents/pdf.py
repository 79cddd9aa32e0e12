"""PDF: the text of its pages, as far as there is any."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Final

from perdure_documents.formats import TEXT_LIMIT_CHARACTERS
from perdure_documents.parsed import Parsed
from perdure_documents.plain import paragraphs
from perdure_documents.refusals import Problem, Refused

if TYPE_CHECKING:
    from pypdf import PdfReader

PAGES_LIMIT: Final = 10_000
_SHOWN_CHARACTERS: Final = 200
_BETWEEN_PAGES: Final = "\n\f\n"


def parse_pdf(content: bytes) -> Parsed:
    """The text of all pages, with a form feed between two. Places are in this text: a PDF has no other.

    Raises:
        Refused: it is broken, encrypted, too large, or holds no text.
    """
    # What it mends it tells by hundreds of warnings.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    reader = _opened(content)
    texts = list(_texts(reader))
    if not any(text.strip() for text in texts):
        raise Refused(
            Problem.EMPTY,
            f"holds no text: its {len(texts)} pages are pictures, or empty; run text recognition (OCR) over it first",
        )
    starts: list[int] = []
    place = 0
    for text in texts:
        starts.append(place)
        place += len(text) + len(_BETWEEN_PAGES)
    whole = _BETWEEN_PAGES.join(texts)
    blocks = (
        block
        for start, text in zip(starts, texts, strict=True)
        for block in paragraphs(whole, start, start + len(text))
    )
    return Parsed(whole, tuple(blocks), page_starts=tuple(starts))


def _opened(content: bytes) -> PdfReader:
    from pypdf import PdfReader  # noqa: PLC0415 - where a PDF is read

    with _broken():
        reader = PdfReader(BytesIO(content))
        # Many are encrypted only so that they are not printed, and open to everybody.
        if reader.is_encrypted and not reader.decrypt(""):
            raise Refused(Problem.ENCRYPTED, "is encrypted, and opens with a password only; save it without one")
        pages = len(reader.pages)
    if pages > PAGES_LIMIT:
        raise Refused(Problem.TOO_LARGE, f"has {pages} pages; expected at most {PAGES_LIMIT}: cut it into several")
    return reader


def _texts(reader: PdfReader) -> Iterator[str]:
    length = 0
    for page in reader.pages:
        with _broken():
            # Half a character, which some fonts' tables yield, is no Unicode.
            text = page.extract_text().replace("\0", "\ufffd").encode(errors="replace").decode()
        length += len(text)
        if length > TEXT_LIMIT_CHARACTERS:
            raise Refused(
                Problem.TOO_LARGE,
                f"unfolds to more than {TEXT_LIMIT_CHARACTERS} characters of text; cut it into several",
            )
        yield text


@contextmanager
def _broken() -> Iterator[None]:
    """Whatever the library stumbles over is the document's fault: it has a dozen ways to say so, and Python's own."""
    from pypdf.errors import LimitReachedError  # noqa: PLC0415 - where a PDF is read

    try:
        yield
    except (Refused, MemoryError):
        raise
    except LimitReachedError as error:
        raise Refused(Problem.TOO_LARGE, f"unfolds to more than is read of a PDF ({error}); save it again") from error
    except Exception as error:
        because = " ".join(str(error).split())[:_SHOWN_CHARACTERS] or type(error).__name__
        raise Refused(
            Problem.BROKEN, f"is a broken PDF ({because}); save it again, from a program that opens it"
        ) from error
