"""The base of every model in the contract."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

COUNT_LIMIT: Final = (1 << 63) - 1
"""The API server's integers have 64 bits: it refuses a status with a larger one."""

Count = Annotated[int, Field(ge=0, le=COUNT_LIMIT)]
"""A number of steps or seconds, as somebody else tells it."""


class ApiModel(BaseModel):
    """A frozen model with camelCase names outside and snake_case names inside.

    Unknown fields are refused: a typo that is silently dropped costs somebody a training run.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        ser_json_inf_nan="constants",
    )

    def to_wire(self) -> dict[str, Any]:
        """The camelCase JSON form, without the fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def from_wire(cls, document: dict[str, Any]) -> Self:
        """The model of a camelCase document.

        Raises:
            pydantic.ValidationError: when the document does not fit.
        """
        return cls.model_validate(document)


class TolerantModel(ApiModel):
    """A model of what another process wrote, possibly a newer one: unknown fields are dropped, not refused."""

    model_config = ConfigDict(extra="ignore")
