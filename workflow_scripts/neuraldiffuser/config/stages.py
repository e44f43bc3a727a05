"""Which configuration keys each stage reads: the registry behind every rule's settings.

``STAGES[stage][argument] = key``: the script's function receives the value of the dotted ``key`` as
its keyword ``argument``. A stage declares exactly what it reads, so a changed key reruns exactly
the stages that depend on it.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter

from neuraldiffuser.config.root import Config
from neuraldiffuser.identity import canonical_json

STAGES: dict[str, dict[str, str]] = {}


def lookup(config: BaseModel, key: str) -> Any:
    """The value of a dotted key."""
    value: Any = config
    for name in key.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


def stage_settings(
    stage: str, config: Config, wildcards: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Canonical JSON of exactly the keys that ``stage`` reads, by argument name.

    A "{variant}" inside a key is filled from the job's wildcards.
    """
    values = {
        argument: lookup(config, key.format(**wildcards)) for argument, key in STAGES[stage].items()
    }
    return canonical_json(TypeAdapter(dict[str, Any]).dump_python(values, mode="json"))


def parse_settings(stage: str, text: str) -> dict[str, Any]:
    """The keyword arguments behind ``stage_settings``, as validated models and plain values."""
    values = json.loads(text)
    return {
        argument: _typed(Config, key.split("."), values[argument])
        for argument, key in STAGES[stage].items()
    }


def _typed(model: type[BaseModel], names: list[str], value: Any) -> Any:
    """``value`` validated as the type that the dotted key has in the models."""
    annotation: Any = model
    for name in names:
        annotation = _annotation(annotation, name)
    return TypeAdapter(annotation).validate_python(value)


def _annotation(owner: Any, name: str) -> Any:
    """Type of a mapping's entry, of a field, or of a property that narrows a section."""
    if get_origin(owner) is dict:
        return get_args(owner)[1]
    if name in owner.model_fields:
        return owner.model_fields[name].annotation
    return get_type_hints(getattr(owner, name).fget)["return"]
