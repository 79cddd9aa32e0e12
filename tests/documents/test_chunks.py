"""Chunks: where they are cut, what they have in common, and where they stand in the source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_documents.chunks import Chunk, Chunking, chunk_document
from perdure_documents.refusals import Refused
from tests.documents import samples

SMALL = Chunking(size=60, overlap=20)
SENTENCES = "The first one is here. The second one follows it. A third one comes next. The fourth is the last of all."


def chunks(name: str, text: str, chunking: Chunking = SMALL) -> list[Chunk]:
    return chunk_document(name, text.encode(), chunking)


def texts(found: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in found]


def test_chunks_end_where_sentences_do() -> None:
    assert texts(chunks("a.txt", SENTENCES, Chunking(size=60, overlap=0))) == [
        "The first one is here. The second one follows it.",
        "A third one comes next. The fourth is the last of all.",
    ]


def test_a_chunk_begins_with_the_end_of_the_one_before_it() -> None:
    found = chunks("a.txt", SENTENCES, Chunking(size=60, overlap=30))

    assert found[1].text.startswith("The second one follows it. A third")
    assert found[1].start < found[0].end


@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_the_source_at_the_offsets_of_a_chunk_is_the_chunk(name: str) -> None:
    source = f"Ärger über 日本語の文章。次の文。 emoji 👩‍👩‍👧 here.\r\n\r\n{SENTENCES}\r\rनमस्ते. Привет, мир."

    found = chunks(name, source)

    assert len(found) > 2
    assert all(source[chunk.start : chunk.end] == chunk.text for chunk in found)


@given(
    st.text(st.sampled_from("ab .\n\r#-`|>語\u3000é\U0001f600\x0b\u2028"), max_size=400),
    st.sampled_from(["md", "txt", "html"]),
)
def test_whatever_the_text_chunks_cover_every_word_in_order(source: str, end: str) -> None:
    try:
        found = chunks(f"a.{end}", source, Chunking(size=20, overlap=5))
    except Refused:
        return

    assert [chunk.start for chunk in found] == sorted(chunk.start for chunk in found)
    assert all(0 <= chunk.start < chunk.end <= len(source) for chunk in found)
    if end == "txt":
        covered = {place for chunk in found for place in range(chunk.start, chunk.end)}
        assert all(place in covered for place, character in enumerate(source) if not character.isspace())


def test_a_word_longer_than_a_chunk_is_cut_and_nothing_of_it_is_lost() -> None:
    found = chunks("a.txt", "x" * 1000, Chunking(size=100, overlap=0))

    assert "".join(texts(found)) == "x" * 1000
    assert all(len(chunk.text) <= 128 for chunk in found)


def test_writing_without_spaces_makes_chunks_of_as_many_tokens() -> None:
    found = chunks("a.txt", "日本語の文章です。" * 20, Chunking(size=100, overlap=0))

    assert all(len(chunk.text) <= 25 for chunk in found)
    assert all(chunk.text.endswith("。") for chunk in found)


def test_an_overlap_of_more_than_half_a_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="found an overlap of 60 for chunks of 100; expected 0 to half"):
        Chunking(size=100, overlap=60)


def test_headings_of_markdown_begin_chunks_and_are_told_with_them() -> None:
    source = "---\ntitle: no text\n---\n# Book\n\n## One #\n\nFirst.\n\nTwo\n---\nSecond.\n\n# Other\n"

    found = chunks("a.md", source, Chunking())

    assert [(chunk.headings, chunk.text) for chunk in found] == [
        (("Book", "One"), "# Book\n\n## One #\n\nFirst."),
        (("Book", "Two"), "Two\n---\nSecond."),
        (("Other",), "# Other"),
    ]


def test_hash_signs_in_code_are_no_headings() -> None:
    found = chunks("a.md", "# Real\n\n```sh\n# no heading\n\nls\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", Chunking())

    assert [chunk.headings for chunk in found] == [("Real",)]
    assert "# no heading\n\nls\n```\n\n| a | b |" in found[0].text


def test_of_html_what_is_seen_is_read_and_found_in_the_source_again() -> None:
    source = (
        "<html><head><title>Tab</title><style>p {}</style></head><body><h1>Fish &amp; chips</h1>\n"
        "<p>Caf&eacute; <b>bold</b>\n   text&nbsp;here</p><script>alert('<p>no</p>')</script>"
        "<ul><li>One<li>Two</ul><table><tr><td>a<td>b</table><pre>x\n  y</pre></body></html>"
    )

    [found] = chunks("a.html", source, Chunking())

    assert found.text == "Fish & chips\n\nCafé bold text here\n\nOne\n\nTwo\n\na b\n\nx\n  y"
    assert found.headings == ("Fish & chips",)
    assert source[found.start :].startswith("Fish &amp; chips")
    assert source[found.end :] == "</pre></body></html>"


def test_a_chunk_of_html_stands_in_the_source_where_its_first_and_last_words_do() -> None:
    source = "<p>" + "</p>\n<p>".join(f"word{n} &lt;tag&gt; <i>number{n}</i>" for n in range(30)) + "</p>"

    found = chunks("a.htm", source, SMALL)

    assert len(found) > 5
    for chunk in found:
        part = source[chunk.start : chunk.end]
        first, last = chunk.text.split()[0], chunk.text.split()[-1]
        assert part.replace("&lt;", "<").replace("&gt;", ">").startswith(first)
        assert part.replace("&lt;", "<").replace("&gt;", ">").endswith(last)


def test_chunks_of_a_pdf_tell_their_page() -> None:
    document = samples.pdf("On the first page.", "On the (second)\npage.", "", "And here is the fourth one, with more.")

    found = chunk_document("a.pdf", document, Chunking(size=40, overlap=0))

    assert [(chunk.page, chunk.text.split("\n")[0]) for chunk in found] == [
        (1, "On the first page."),
        (4, "And here is the fourth one, with more."),
    ]
    assert all(chunk.start < chunk.end for chunk in found)
