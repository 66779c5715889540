"""What all options are based on: pydantic models that refuse unknown keys and say what a result depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, JsonValue, ModelWrapValidatorHandler, ValidationInfo, model_validator

# The context in which descriptions are validated that were written with a result, maybe by earlier code.
STORED: Mapping[str, bool] = {"stored": True}


@dataclass(frozen=True)
class AddedWith:
    """Marks an option that came after results had been made as if it had `value`: with that it is in no key.

    Descriptions that were stored before (validated in the context `STORED`) mean that value, whatever the default is.
    """

    value: JsonValue


class Options(BaseModel):
    """Base of everything a user may set: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _as_it_was(cls, values: Any, validated: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not isinstance(values, dict) or info.context is not STORED:
            return validated(values)
        marks = ((name, mark) for name, field in cls.model_fields.items() for mark in field.metadata)
        added = {name: mark.value for name, mark in marks if isinstance(mark, AddedWith) and name not in values}
        found = validated({**added, **values})
        # What the description does not say does not count as said.
        found.model_fields_set.difference_update(added)
        return found

    @property
    def hashed(self) -> dict[str, Any]:
        """What a result depends on, as JSON; options marked by `AddedWith` only where they differ from its value."""
        hashed = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Options):
                hashed[name] = value.hashed
            elif isinstance(value, tuple):
                pairs = zip(value, hashed[name], strict=True)
                hashed[name] = [item.hashed if isinstance(item, Options) else dumped for item, dumped in pairs]
            if any(isinstance(mark, AddedWith) and mark.value == hashed[name] for mark in field.metadata):
                del hashed[name]
        return hashed
