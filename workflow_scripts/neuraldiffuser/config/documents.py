"""Writes the files that document the configuration from the models themselves.

``python -m neuraldiffuser.config.documents`` rewrites config.yaml (every key with its default and
what it means) and config/schema.json. A test keeps both in step with the models.
"""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from neuraldiffuser.config.root import Config

REPOSITORY = Path(__file__).parents[3]
WIDTH = 100
HEADER = """\
# The paper's experiment on the Natural Scenes Dataset, every key with its meaning.
#
# Plain `snakemake` runs it. To change something, edit a value here or, better, put the changed keys
# into a file of your own: `snakemake --configfile my.yaml`. Where the paper, the authors' released
# code and sound practice disagree, a key has one named value for each reading (docs/fidelity.md);
# `--configfile config/fidelity/corrected.yaml` switches them all at once. The offline miniature is
# `--configfile config/fidelity/corrected.yaml config/mini.yaml` (`make demo`).
#
# Generated from workflow_scripts/neuraldiffuser/config by `make config`; a test keeps it in step.
"""


def config_yaml() -> str:
    """The documented defaults as the text of config.yaml."""
    return HEADER + "\n".join(_lines(Config(), indent=0)).rstrip() + "\n"


def schema_json() -> str:
    """The JSON schema of the configuration, for editors."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def _lines(section: BaseModel, *, indent: int) -> Iterator[str]:
    pad = " " * indent
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if indent == 0:
            yield ""
        yield from _comment(field.description or "", indent=indent)
        for key, entry in _keys_of_entries(field.annotation).items():
            yield from _comment(f"{key}: {entry.description}", indent=indent, hanging="  ")
        if isinstance(value, BaseModel):
            yield f"{pad}{name}:"
            yield from _lines(value, indent=indent + 2)
        else:
            yield from _entry(name, _plain(value), pad=pad)


def _comment(text: str, *, indent: int, hanging: str = "") -> Iterator[str]:
    """A description in lines of its own; with ``hanging``, all lines are set in by it or more."""
    lines = textwrap.wrap(
        text, WIDTH - indent - 2, initial_indent=hanging, subsequent_indent=2 * hanging
    )
    return (f"{' ' * indent}# {line}" for line in lines)


def _keys_of_entries(annotation: Any) -> dict[str, FieldInfo]:
    """The keys of each entry, where a field maps names to sections."""
    if get_origin(annotation) is not dict:
        return {}
    return getattr(get_args(annotation)[1], "model_fields", {})


def _plain(value: Any) -> Any:
    """``value`` as YAML's own types; models inside mappings without their default keys."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _entry(name: str, value: Any, *, pad: str) -> Iterator[str]:
    """One key: on one line where it fits, its items on lines of their own where not."""
    line = _flow({name: value})
    if len(pad) + len(line) <= WIDTH or not isinstance(value, (dict, list)):
        yield f"{pad}{line}"
        return
    yield f"{pad}{name}:"
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _item(key, item, pad=f"{pad}  ")
    else:
        yield from (f"{pad}  - {_flow([item])}" for item in value)


def _item(key: str, value: Any, *, pad: str) -> Iterator[str]:
    """One item of a mapping; a mapping of plain values stays on one line, however long."""
    if isinstance(value, dict) and not any(isinstance(each, dict) for each in value.values()):
        yield f"{pad}{_flow({key: value})}"
    else:
        yield from _entry(key, value, pad=pad)


def _flow(value: dict | list) -> str:
    """A mapping or list on one line, without its own brackets."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.strip()[1:-1]


def main() -> None:
    """Rewrites config.yaml and config/schema.json."""
    (REPOSITORY / "config.yaml").write_text(config_yaml(), encoding="utf-8")
    (REPOSITORY / "config" / "schema.json").write_text(schema_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
