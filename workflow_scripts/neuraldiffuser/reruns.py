"""Why a job must run again: what its sidecars tell, beside what it would be made from now.

The sidecars are the only record that counts. They travel with the results, so a copy, another
checkout or a lost ``.snakemake`` changes nothing; dates of files never count.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from neuraldiffuser import provenance
from neuraldiffuser.config.stages import STAGES
from neuraldiffuser.identity import canonical_json

NOTHING = "nothing"


@dataclass(frozen=True)
class Making:
    """How a job would make its outputs now.

    Attributes:
        stage: name of the rule.
        wildcards: of the job.
        outputs: files that it makes.
        inputs: files that it reads, in the order of the rule.
        settings: the keys that it reads, by argument.
        code: digests of its modules, or a sentence where it depends on no code.
        parameters: what else decides its result.
    """

    stage: str
    wildcards: Mapping[str, str]
    outputs: Sequence[Path]
    inputs: Sequence[Path]
    settings: Mapping[str, Any]
    code: Mapping[str, str] | str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One difference between how a file was made and how it would be made now.

    Attributes:
        kind: of thing that differs.
        name: the configuration's key, the parameter, the module or the file.
        before: what it was, as text.
        now: what it is.
    """

    kind: Literal["setting", "parameter", "code", "input", "output", "sidecar"]
    name: str
    before: str
    now: str


def find_changes(making: Making) -> list[Change]:
    """What tells a job's outputs on disk from what it would make now; empty if they are up to date.

    Outputs that are not on disk are left out: whether a job runs for them is Snakemake's to say.
    """
    present = [path for path in making.outputs if path.is_file()]
    return list(dict.fromkeys(change for path in present for change in _compare(path, making)))


def _compare(path: Path, making: Making) -> Iterator[Change]:
    sidecar = provenance.read_sidecar(path)
    if sidecar is None:
        yield Change("sidecar", str(path), "none that can be read", "needed beside it")
        return
    if not provenance.is_as_made(path, sidecar):
        yield Change("output", str(path), "as it was made", "another file")
    named = [name_settings(each, making) for each in (sidecar["settings"], making.settings)]
    yield from _compare_values("setting", *named)
    before = {name: sidecar["parameters"].get(name) for name in making.parameters}
    yield from _compare_values("parameter", before, making.parameters)
    yield from _compare_values("code", *map(_name_modules, (sidecar["code"], making.code)))
    yield from _compare_inputs(sidecar["inputs"], making.inputs)


def name_settings(settings: Mapping[str, Any], making: Making) -> dict[str, Any]:
    """A job's settings by their keys in the configuration, down to the last level."""
    keys = STAGES.get(making.stage, {})
    named = {
        keys.get(argument, argument).format(**making.wildcards): value
        for argument, value in settings.items()
    }
    return dict(_flatten(named))


def _flatten(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _name_modules(code: Mapping[str, str] | str) -> Mapping[str, str]:
    return {"as a whole": code} if isinstance(code, str) else code


def _compare_values(
    kind: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[Change]:
    """Differences by name; a value that one side lacks is "nothing"."""
    if before == now:
        return
    for name in sorted({*before, *now}):
        then, new = (_write(values, name) for values in (before, now))
        if then != new:
            yield Change(kind, name, then, new)


def _write(values: Mapping[str, Any], name: str) -> str:
    return canonical_json(values[name]) if name in values else NOTHING


def _compare_inputs(before: Sequence[Sequence[str]], now: Sequence[Path]) -> Iterator[Change]:
    """Differences place by place: what a file holds counts, its name does not.

    An input that is not on disk was deleted after use: what its sidecar tells counts.
    """
    read = [path for path in now if not path.is_dir()]
    for then, path in zip_longest(before, read):
        if path is None:
            yield Change("input", then[0], "read", "no longer read")
        elif then is None:
            yield Change("input", str(path), "not read", "read")
        elif (identity := _identify(path)) not in (None, then[1]):
            yield Change("input", str(path), then[1], identity)


def _identify(path: Path) -> str | None:
    if path.is_file():
        return provenance.identify(path)
    sidecar = provenance.read_sidecar(path)
    return sidecar["sha256"] if sidecar else None
