"""The base of every configuration section."""

from collections.abc import Mapping
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


def nest(key: str, value: Any) -> dict[str, Any]:
    """An overlay of the configuration that sets one dotted key."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as Snakemake merges configuration files: the second one wins."""
    merged = dict(first)
    for name, value in second.items():
        known = merged.get(name)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[name] = merge(known, value) if both else value
    return merged
