"""Which files a dataset has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from perdure_api.spec import DatasetFormat
from perdure_api.uri import StoreUri
from perdure_data.datasets.errors import DatasetBroken, DatasetDenied, DatasetEmpty, DatasetNotFound
from perdure_data.datasets.formats import HEAD_BYTES, DatasetFile, FileFormat, format_in_name, recognise
from perdure_data.datasets.source import Source
from perdure_data.datasets.wording import names
from perdure_data.errors import AccessDenied, NotFound
from perdure_data.stores import ObjectInfo, Stores

_HIDDEN: Final = (".", "_")


def locate(stores: Stores, source: Source) -> list[ObjectInfo]:
    """The files of a dataset, in the order in which they are read: that of their names.

    Raises:
        DatasetNotFound: there is none.
        DatasetDenied: it may not be read.
        DatasetEmpty: no byte in one of them.
        DatasetBroken: a folder holds what is no data.
        Unavailable: the store is away; try again later.
    """
    try:
        files = data_files(source, stores.list_objects(source.uri)) if source.is_folder else [stores.head(source.uri)]
    except NotFound as error:
        raise DatasetNotFound(f"dataset {error}{_what_is_below(stores, source)}") from error
    except AccessDenied as error:
        raise DatasetDenied(f"dataset {error}") from error
    for info in files:
        if info.size_bytes == 0:
            raise DatasetEmpty(f"dataset {info.uri} has 0 bytes; expected at least one document. Upload it again")
    return files


def data_files(source: Source, found: Iterable[ObjectInfo]) -> list[ObjectInfo]:
    """Those of the objects below a folder that are data: all, or there is something to clear up.

    Raises:
        DatasetNotFound: there are none.
        DatasetBroken: hidden files, or such as no format that was asked for has.
    """
    files = _without_markers(source, found)
    if hidden := [info for info in files if _is_hidden(_below(source.uri, info))]:
        raise DatasetBroken(
            f"dataset {source.uri} holds hidden files ({_names_below(source.uri, hidden)}), which may be data or not; "
            "remove them, or give spec.dataset.uri a folder with nothing but data"
        )
    known = {"", *FileFormat} if source.format is DatasetFormat.AUTO else {"", source.format.value}
    if foreign := [info for info in files if format_in_name(info.uri) not in known]:
        expected = ".jsonl, .txt or .parquet" if source.format is DatasetFormat.AUTO else f"{source.format} files"
        raise DatasetBroken(
            f"dataset {source.uri} holds files of another kind ({_names_below(source.uri, foreign)}); expected "
            f"{expected}. Remove them, or give spec.dataset.uri a folder with nothing but data"
        )
    if not files:
        raise DatasetNotFound(f"dataset {source.uri} has no files; upload them or correct the URI")
    return files


def look_at(stores: Stores, source: Source, files: Iterable[ObjectInfo]) -> Iterator[DatasetFile]:
    """What each of the files is; they must all be of one format.

    Raises:
        DatasetBroken: it is not what was asked for, or not what the first one is.
        Unavailable: the store is away; try again later.
    """
    first: DatasetFile | None = None
    for info in files:
        file = recognise(info, stores.read_range(info, 0, HEAD_BYTES), source.format)
        first = first or file
        if file.format is not first.format:
            raise DatasetBroken(
                f"dataset {source.uri} holds files of two formats ({first.format}: "
                f"{_below(source.uri, first.info)}, {file.format}: {_below(source.uri, info)}); keep one of them there"
            )
        yield file


def _without_markers(source: Source, found: Iterable[ObjectInfo]) -> list[ObjectInfo]:
    """Without the empty objects that some tools write: one for each folder, and one that says that all is written."""
    files = list(found)
    folders = {_below(source.uri, info).rpartition("/")[0] for info in files}
    parents = {"/".join(folder.split("/")[:depth]) for folder in folders for depth in range(folder.count("/") + 2)}

    def is_marker(info: ObjectInfo) -> bool:
        place = _below(source.uri, info)
        return info.size_bytes == 0 and (place in parents or place.rpartition("/")[2] == "_SUCCESS")

    return [info for info in files if not is_marker(info)]


def _is_hidden(place: str) -> bool:
    return any(part.startswith(_HIDDEN) for part in place.split("/"))


def _below(folder: StoreUri, info: ObjectInfo) -> str:
    return info.uri.path.removeprefix(folder.path if folder.path.endswith("/") else f"{folder.path}/").removesuffix("/")


def _names_below(folder: StoreUri, infos: list[ObjectInfo]) -> str:
    return names([_below(folder, info) for info in infos])


def _what_is_below(stores: Stores, source: Source) -> str:
    try:
        files, folders = stores.children(source.uri)
    except (NotFound, AccessDenied):
        return ""
    if not files and not folders:
        return ""
    return ' (it is a folder; end spec.dataset.uri with "/" to train on all data files in it, or give one file there)'
