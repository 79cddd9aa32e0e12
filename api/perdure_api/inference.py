"""What is asked of models that answer, and what they answer: the GPU pool's activities, and the workflows on them.

These documents lie in Temporal's histories: fields may be added with a default, never renamed or removed.
"""

from __future__ import annotations

import base64
import re
import sys
from array import array
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from perdure_api.model import Count, TolerantModel
from perdure_api.uri import UriError, parse_uri

TEXTS_LIMIT: Final = 100_000
"""Texts in one message; more belong into the object store."""
TEXT_LIMIT_CHARACTERS: Final = 1_000_000
"""Of one text: what is longer is a document, of which a model would read only the beginning."""
PROMPTS_LIMIT: Final = 10_000
ANSWER_NUMBERS: Final = 262_144
"""Of vectors in an activity's answer: 1.4 MB, where Temporal takes 2 MiB."""
RESULT_NUMBERS: Final = 131_072
"""Of vectors in a workflow's result, where they are written out as numbers: 1.7 MB."""
ROWS_PER_FILE: Final = 2048

_HALF_A_CHARACTER: Final = re.compile("[\ud800-\udfff]")


class Problem(StrEnum):
    """Why a request is refused: the type of an error that is not tried again."""

    INVALID_TEXT = "InvalidText"
    INVALID_REQUEST = "InvalidRequest"
    TOO_MANY_TOKENS = "TooManyTokens"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_BROKEN = "ModelBroken"
    ACCESS_DENIED = "AccessDenied"
    TEXTS_NOT_FOUND = "TextsNotFound"
    OUTPUT_MISSING = "OutputMissing"
    """More is answered than Temporal takes, and nothing says where in the store it may be put."""
    OUTPUT_NOT_WRITABLE = "OutputNotWritable"
    OUT_OF_MEMORY = "OutOfMemory"
    """Of the GPU, or of the machine."""


def text_problem(text: str) -> str | None:
    """What is wrong with a text, such as `is empty`; None: nothing."""
    if not text.strip():
        return "is empty; leave it out"
    if len(text) > TEXT_LIMIT_CHARACTERS:
        return f"has {len(text)} characters; expected at most {TEXT_LIMIT_CHARACTERS}: cut it into pieces"
    if (place := text.find("\0")) >= 0:
        return f"has a NUL byte at character {place}, so it is binary data; expected text"
    if half := _HALF_A_CHARACTER.search(text):
        return f"has half a character (a lone surrogate) at character {half.start()}; expected Unicode"
    return None


def _checked_text(text: str) -> str:
    if problem := text_problem(text):
        raise ValueError(f"it {problem}")
    return text


def _checked_uri(uri: str) -> str:
    try:
        parse_uri(uri)
    except UriError as error:
        raise ValueError(str(error)) from error
    return uri


Text = Annotated[str, AfterValidator(_checked_text)]
Uri = Annotated[str, Field(max_length=2048), AfterValidator(_checked_uri)]


class TextFormat(StrEnum):
    """How texts lie in a file; in either, blank lines are none."""

    JSONL = "jsonl"
    """A JSON object a line."""
    TEXT = "text"
    """A text a line."""


class TextPart(TolerantModel):
    """Some lines of a file that was looked at: whole, and not changed since."""

    uri: str
    size_bytes: int
    etag: str | None = None
    start: int
    """Byte at which its first line begins."""
    end: int
    rows: int
    """Texts in it."""
    format: TextFormat
    field: str


class EmbedTexts(TolerantModel):
    """What `embed_texts` takes: texts to make vectors of."""

    model: str
    """URI of a folder with a sentence encoder."""
    texts: list[str] = []
    part: TextPart | None = None
    """Texts of the store, instead."""
    first_row: int = 0
    """Number of the first text, for files."""
    output: str | None = None
    """Folder for files; None: the vectors come in the answer."""
    rows_per_file: int = ROWS_PER_FILE
    normalize: bool = True
    """To length 1, so that the product of two is the cosine of their angle."""
    exact: bool = False
    """Never computed together with texts of other requests: the same request gives the same bits."""
    limit_numbers: int = ANSWER_NUMBERS
    """Of an answer without files."""


class Embedded(TolerantModel):
    """What `embed_texts` returns."""

    count: int
    dimension: int
    tokens: int
    """That the model has read."""
    truncated: int = 0
    """Texts of which the model has read only the beginning."""
    seconds: float
    """That the model took."""
    model_fingerprint: str
    """`sha256:…` of the model's files."""
    vectors: str = ""
    """Base64 of 32-bit floats, little-endian, row by row."""
    files: list[str] = []
    """URIs, in the order of the rows."""

    def rows(self) -> list[list[float]]:
        """The vectors that came in the answer."""
        numbers = array("f", base64.b64decode(self.vectors))
        if sys.byteorder == "big":
            numbers.byteswap()
        size = self.dimension
        return [numbers[start : start + size].tolist() for start in range(0, len(numbers), size)]


class Generate(TolerantModel):
    """What `generate` takes: prompts to go on from."""

    model: str
    """URI of a folder with a causal language model, or of one GGUF file."""
    adapter: str | None = None
    """URI of a folder with a LoRA adapter for it, as training leaves it."""
    prompts: list[str]
    system: str = ""
    """What a conversation begins with."""
    chat: bool | None = None
    """Put each prompt into the model's chat template; None: where it has one."""
    max_new_tokens: int = 256
    max_prompt_tokens: int | None = None
    """None: as many as the model reads, less the new ones."""
    temperature: float = 0.0
    """0: always the likeliest token."""
    top_p: float = 1.0
    seed: int = 0
    exact: bool = False
    """Each prompt alone: nothing that is asked beside it changes its answer."""


FinishReason = Literal["stop", "length"]


class GeneratedText(TolerantModel):
    """An answer."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason = "stop"
    """`length`: it was cut at maxNewTokens."""


class Generated(TolerantModel):
    """What `generate` returns: an answer for each prompt, in their order."""

    texts: list[GeneratedText]
    seconds: float
    model_fingerprint: str


class PrepareAndInferInput(TolerantModel):
    """A prompt for a language model."""

    model: Uri = Field(description="URI of a causal language model: a Hugging Face folder, or one GGUF file.")
    prompt: Text = Field(description="What to answer, or to go on from.")
    adapter: Uri | None = Field(default=None, description="URI of a LoRA adapter's folder.")
    system: str = Field(default="", description="What a conversation begins with.", max_length=TEXT_LIMIT_CHARACTERS)
    chat: bool | None = Field(
        default=None, description="Put the prompt into the model's chat template. Left out: where it has one."
    )
    max_prompt_tokens: int | None = Field(
        default=None, ge=1, description="A longer prompt is refused. Left out: what the model reads."
    )
    max_new_tokens: int = Field(default=256, ge=1, le=32_768, description="The answer is cut there.")
    temperature: float = Field(default=0.0, ge=0, le=10, description="0: always the likeliest token.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Only the likeliest tokens, up to this probability.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Of what chance decides.")


class PrepareAndInferResult(TolerantModel):
    """The answer."""

    text: str
    prompt_tokens: Count
    completion_tokens: Count
    finish_reason: FinishReason
    seconds: float
    """That the model took."""


class TextSource(TolerantModel):
    """Texts in the object store."""

    uri: Uri = Field(description="A file, or a folder of files.")
    format: TextFormat | None = Field(default=None, description="jsonl or text. Left out: by the ends of their names.")
    field: str = Field(default="text", min_length=1, description="Of jsonl: where the text is.")


def _few_enough(texts: object) -> object:
    """Says what to do, which a limit alone does not."""
    if isinstance(texts, list) and len(texts) > TEXTS_LIMIT:
        raise ValueError(
            f"found {len(texts)} texts; expected at most {TEXTS_LIMIT} inline. Put them into a file in the object "
            f"store, and its URI into source"
        )
    return texts


class BatchEmbedInput(TolerantModel):
    """Texts to make vectors of: inline, or in the store."""

    model: Uri = Field(description="URI of a folder with a sentence encoder.")
    texts: Annotated[
        list[Text], BeforeValidator(_few_enough), Field(max_length=TEXTS_LIMIT, description="Inline.")
    ] = []
    source: TextSource | None = Field(default=None, description="In the object store, instead.")
    output: Uri | None = Field(
        default=None,
        description="Folder for Parquet files. Left out: few vectors are in the result, more are refused.",
    )
    rows_per_file: int = Field(default=ROWS_PER_FILE, ge=1, le=65_536, description="Vectors in each file.")
    normalize: bool = Field(default=True, description="To length 1.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.texts) == (self.source is not None):
            found = "both" if self.texts else "neither"
            raise ValueError(f"found {found} of texts and source; expected one of them")
        return self


class BatchEmbedResult(TolerantModel):
    """Vectors, or where they are."""

    count: Count
    dimension: Count
    tokens: Count
    truncated: Count = 0
    """Texts of which the model has read only the beginning."""
    seconds: float
    """That the models took, all together."""
    model_fingerprint: str
    vectors: list[list[float]] = []
    uri: str | None = None
    """Folder of the Parquet files, where there was an output: columns row, text and vector."""
    files: Count = 0
