"""Documents into chunks: what an embedding is made of, and what a search finds.

    refusals   why a document is not read, a sentence each
    formats    what a document is, by its name and its first bytes, and its bytes as text
    parsed     a document's text, its blocks, and where each stands in the source
    plain, markdown, html, pdf   a parser each
    chunks     blocks into chunks of about one size, with overlap and offsets
    reader     all of it in a child process, bounded in memory and time
    child      what runs there

Knows nothing of Temporal, of stores and of models. Libraries for one format are imported where that is read.
"""
