"""Turns a raw configuration into a checked one, or into one sentence per mistake."""

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from neuraldiffuser.config.root import Config
from neuraldiffuser.errors import ConfigError


def validate(raw: Mapping[str, Any]) -> Config:
    """The validated configuration.

    Raises:
        ConfigError: one line per unknown key ("did you mean"), mistyped value or contradiction.
    """
    try:
        return Config.model_validate(dict(raw))
    except ValidationError as error:
        sentences = [_sentence(details) for details in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(sentences))) from None


def _sentence(details: Mapping[str, Any]) -> str:
    """What is wrong with one key, and what would be right."""
    names = [str(part) for part in details["loc"]]
    key = ".".join(names)
    if details["type"] == "extra_forbidden":
        return f"config: unknown key {key}; {_suggestion(names)}"
    message = details["msg"].removeprefix("Value error, ").rstrip(".")
    if details["type"] in ("value_error", "missing"):
        return f"config: {key}: {message}." if names else f"config: {message}."
    return f"config: {key} is {details['input']!r}: {message[0].lower()}{message[1:]}."


def _suggestion(names: list[str]) -> str:
    known = _fields_at(Config, names[:-1])
    close = difflib.get_close_matches(names[-1], known, n=1)
    if close:
        return f"did you mean {'.'.join([*names[:-1], close[0]])}?"
    return f"known keys there are {', '.join(known)}."


def _fields_at(model: type[BaseModel], names: list[str]) -> list[str]:
    """The keys that a section knows; names that are no fields are keys of a mapping."""
    current: Any = model
    for name in names:
        fields = _model_in(current).model_fields
        current = fields[name].annotation if name in fields else current
    return list(_model_in(current).model_fields)


def _model_in(annotation: Any) -> type[BaseModel]:
    """The model inside an annotation such as ``dict[str, Variant]`` or ``Section | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [_model_in(part) for part in get_args(annotation) if part not in (str, type(None))]
    return models[0] if models else BaseModel
