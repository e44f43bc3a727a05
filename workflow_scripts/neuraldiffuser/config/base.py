"""The base of every configuration section."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen settings that refuse unknown keys; each field's description documents its key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __copy__(self) -> Self:
        """A copy is about to be changed: what was worked out of the fields does not come along."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return self.model_construct(self.model_fields_set, **fields)


def narrow(section: Section, kind: type[Section]) -> Section:
    """The part of a section that one of its base classes describes."""
    return kind(**{name: getattr(section, name) for name in kind.model_fields})


def lookup(config: Any, key: str) -> Any:
    """The value of a dotted key in sections, mappings or dataclasses."""
    value = config
    for name in key.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value
