"""Looking at texts in the store, before any GPU is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure_api.inference import Problem
from perdure_api.uri import UriError
from perdure_data.errors import AccessDenied, NotFound, StoreError, Unavailable
from perdure_data.stores import Stores
from perdure_data.texts import TextsError, survey
from perdure_workers.activities.heartbeats import beating
from perdure_workers.messages import ActivityName, SurveyTexts, TextsSurveyed


class TextActivities:
    """Reads texts of object stores."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    @activity.defn(name=ActivityName.SURVEY_TEXTS)
    async def survey_texts(self, request: SurveyTexts) -> TextsSurveyed:
        """Where texts are, each of them looked at.

        Raises:
            ApplicationError: InvalidText, TextsNotFound or AccessDenied.
        """
        with text_refusals():
            parts = await beating(asyncio.to_thread(survey, self._stores, request.source, request.rows_per_part))
        return TextsSurveyed(parts=parts)


@contextmanager
def text_refusals() -> Iterator[None]:
    """What reading texts raises, as a refusal; but for a store that is away, which is tried again."""
    try:
        yield
    except TextsError as error:
        raise problem(Problem.INVALID_TEXT, str(error)) from error
    except UriError as error:
        raise problem(Problem.INVALID_REQUEST, str(error)) from error
    except Unavailable:
        raise
    except NotFound as error:
        raise problem(Problem.TEXTS_NOT_FOUND, f"texts {error}") from error
    except AccessDenied as error:
        raise problem(Problem.ACCESS_DENIED, f"texts {error}") from error
    except StoreError as error:
        raise problem(Problem.INVALID_REQUEST, f"texts {error}") from error


def problem(kind: Problem, message: str) -> ApplicationError:
    """An error that Temporal does not try again."""
    return ApplicationError(message, type=str(kind), non_retryable=True)
