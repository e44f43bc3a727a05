"""Which configuration keys each stage reads: the registry behind every rule's settings.

``STAGES[stage][argument] = key``: the script's function receives the value of the dotted ``key`` as
its keyword ``argument``. A stage declares exactly what it reads, so a changed key reruns exactly
the stages that depend on it.
"""

import json
from typing import Any

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


def stage_settings(stage: str, config: Config) -> str:
    """Canonical JSON of exactly the keys that ``stage`` reads, by argument name."""
    values = {argument: lookup(config, key) for argument, key in STAGES[stage].items()}
    adapter = TypeAdapter(dict[str, Any])
    return canonical_json(adapter.dump_python(values, mode="json"))


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
        annotation = annotation.model_fields[name].annotation
    return TypeAdapter(annotation).validate_python(value)
