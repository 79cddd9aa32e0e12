"""What can go wrong with a store, translated here and nowhere else from what obstore raises.

StoreError
├── NotFound
│   └── BucketNotFound
├── AccessDenied
│   └── NoCredentials
├── AlreadyExists
├── TooLarge
├── NoSpace
└── Unavailable      the only one that waiting can heal: callers retry it, and nothing else
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from obstore import exceptions

from perdure_api.uri import StoreUri


class StoreError(Exception):
    """A store did not do what was asked; the message is a sentence for the person who gave the URI."""


class NotFound(StoreError):
    """Nothing is at this URI."""


class BucketNotFound(NotFound):
    """Not even its bucket is there."""


class AccessDenied(StoreError):
    """The store knows who asks, or refuses to, and says no."""


class NoCredentials(AccessDenied):
    """Nothing in the environment says who asks."""


class AlreadyExists(StoreError):
    """A conditional write found something there."""


class TooLarge(StoreError):
    """An object is larger than whoever reads it is ready for."""


class NoSpace(StoreError):
    """The file system is full."""


class Unavailable(StoreError):
    """The store cannot be reached, or answers that it has troubles of its own: try again later."""


_SYSTEM: Final = re.compile(r"(?:os error |Errno )(\d+)")
_STATUS: Final = re.compile(r"non-2xx status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_METADATA_SERVICES: Final = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")
"""Where obstore looks for credentials when the environment has none."""
_TRANSIENT_STATUS: Final = frozenset({408, 425, 429})
_TRANSIENT_TEXT: Final = ("error sending request", "error decoding response body", "connection", "timed out", "timeout")
_CREDENTIALS_OF: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_DENIED_BECAUSE: Final = {
    "SignatureDoesNotMatch": "the secret key is not the one of the access key",
    "InvalidAccessKeyId": "the store does not know the access key",
    "ExpiredToken": "the session token has expired",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}


@contextmanager
def translated(uri: StoreUri) -> Iterator[None]:
    """Turns every exception that obstore raises inside into one StoreError about `uri`."""
    try:
        yield
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise store_error(error, uri) from error


def store_error(error: Exception, uri: StoreUri) -> StoreError:
    """The StoreError that an exception of obstore amounts to.

    obstore has few classes of its own: most of what happened (status, S3's code) is only in the text.
    """
    text = str(error).partition("\n\nDebug source")[0]
    status = int(match[1]) if (match := _STATUS.search(text)) else None
    code = match[1] if (match := _CODE.search(text)) else ""
    match error:
        case exceptions.AlreadyExistsError():
            return AlreadyExists(f"{uri} is there already; it was to be written only if it was not")
        case exceptions.PreconditionError():
            return Unavailable(f"{uri} changed while it was read; leave it as it is until it was read whole")
        case exceptions.PermissionDeniedError() | exceptions.UnauthenticatedError():
            return _denied(uri, code)
        case FileNotFoundError():
            return _missing(uri, code, text)
    if any(address in text for address in _METADATA_SERVICES) or "Account must be specified" in text:
        return NoCredentials(
            f"{uri}: no credentials for {uri.scheme}:// were found; set {_CREDENTIALS_OF.get(uri.scheme, 'them')} "
            "(trainer.env can take them from a Secret), or a service account that has access"
        )
    return _by_text(uri, text) if status is None else _by_status(uri, status, code, text)


def _missing(uri: StoreUri, code: str, text: str) -> NotFound:
    if code in {"NoSuchBucket", "ContainerNotFound"} or "bucket does not exist" in text:
        return BucketNotFound(f"{uri}: there is no bucket {uri.bucket}; create it or correct the URI")
    if "is directory" in text:
        return NotFound(f"{uri} is a folder; give the URI of a file in it")
    return NotFound(f"{uri} was not found; upload it or correct the URI")


def _denied(uri: StoreUri, code: str) -> AccessDenied:
    because = _DENIED_BECAUSE.get(code, "these credentials may not do this")
    return AccessDenied(f"{uri}: access denied, {because}; correct the credentials or the bucket's policy")


def _by_status(uri: StoreUri, status: int, code: str, text: str) -> StoreError:
    if status >= 500 or status in _TRANSIENT_STATUS:  # noqa: PLR2004 - the server's own troubles
        return Unavailable(f"{uri}: the store answers {status} {code}".rstrip() + "; it should recover by itself")
    match status:
        case 401 | 403:
            return _denied(uri, code)
        case 404:
            return _missing(uri, code, text)
        case 416:
            return NotFound(f"{uri} is shorter than it was; it must not change while it is read")
    return StoreError(f"{uri}: the store answers {status} {code}".rstrip() + "; check the URI and the endpoint")


def _by_text(uri: StoreUri, text: str) -> StoreError:
    # The operating system's own numbers: obstore passes them on as text.
    number = int(match[1]) if (match := _SYSTEM.search(text)) else None
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpace(f"{uri}: no space left on the file system; make room or mount a larger volume")
    if number in {errno.EACCES, errno.EROFS, errno.EPERM}:
        return AccessDenied(f"{uri}: this process may not read or write there; check owner and mount of the folder")
    if "redirect without LOCATION" in text:
        return StoreError(f"{uri}: the store says that the bucket is in another region; set AWS_REGION to it")
    if "builder error" in text:
        return StoreError(f"{uri}: the store's endpoint is no http:// or https:// address; correct AWS_ENDPOINT_URL")
    if any(sign in text.lower() for sign in _TRANSIENT_TEXT):
        return Unavailable(f"{uri}: the store cannot be reached; check its address if this does not pass")
    return StoreError(f"{uri}: {text}")
