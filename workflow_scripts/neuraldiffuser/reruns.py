"""Why a job must run again: what its sidecars tell, beside what it would be made from now.

The sidecars are the only record that counts. They travel with the results, so a copy, another
checkout or a lost ``.snakemake`` changes nothing; dates of files never count.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from neuraldiffuser import provenance
from neuraldiffuser.config.stages import STAGES, name_key
from neuraldiffuser.identity import canonical_json

NOTHING = "nothing"
Identify = Callable[[Path], str]
DIGITS = 12  # of a digest that is shown


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
        lost: a file that it read and that must be brought again, if there is one.
    """

    stage: str
    wildcards: Mapping[str, str]
    outputs: Sequence[Path]
    inputs: Sequence[Path]
    settings: Mapping[str, Any]
    code: Mapping[str, str] | str
    parameters: Mapping[str, Any]
    lost: str | None = None


@dataclass(frozen=True)
class Change:
    """One difference between how a file was made and how it would be made now.

    Attributes:
        kind: of thing that differs.
        name: the configuration's key, the parameter, the module or the file.
        before: what it was, as text.
        now: what it is.
    """

    kind: Literal["setting", "parameter", "code", "input", "output", "sidecar", "missing", "other"]
    name: str
    before: str
    now: str


def identify_input(path: Path) -> str:
    """What an input holds; of one that was deleted after use, what its sidecar tells."""
    if path.exists():
        return provenance.identify(path)
    sidecar = provenance.read_sidecar(path)
    return sidecar["sha256"] if sidecar else NOTHING


def find_changes(making: Making, identify: Identify = identify_input) -> list[Change]:
    """What tells a job's outputs from what it would make now; empty if they are up to date.

    Of an output that was deleted after use, its sidecar is compared; where that is gone too, what
    read the output tells the difference.

    Args:
        making: how the outputs would be made.
        identify: what an input holds; one that remembers, where jobs that read the same files ask.
    """
    files = [path for path in making.outputs if not path.is_dir()]
    found = (change for path in files for change in _compare(path, making, identify))
    lost = [Change("input", making.lost, "there", "lost")] if making.lost else []
    return [*dict.fromkeys(found), *lost]


def _compare(path: Path, making: Making, identify: Identify) -> Iterator[Change]:
    sidecar = provenance.read_sidecar(path)
    exists = path.is_file()
    if sidecar is None:
        # A file that is verified on arrival, by no code of ours, may have been put there by hand.
        if exists and not isinstance(making.code, str):
            yield Change("sidecar", str(path), "none that can be read", "needed beside it")
        return
    if exists and not provenance.is_as_made(path, sidecar):
        yield Change("output", str(path), "as it was made", "another file")
    if sidecar["settings"] != making.settings:
        named = [name_settings(each, making) for each in (sidecar["settings"], making.settings)]
        yield from _compare_values("setting", *named)
    told = {name: sidecar["parameters"].get(name) for name in making.parameters}
    yield from _compare_values("parameter", *map(dict, map(_flatten, (told, making.parameters))))
    yield from _compare_values("code", *map(_name_modules, (sidecar["code"], making.code)))
    yield from _compare_inputs(sidecar["inputs"], making.inputs, identify)


def name_settings(settings: Mapping[str, Any], making: Making) -> dict[str, Any]:
    """A job's settings by their keys in the configuration, down to the last level."""
    keys = STAGES.get(making.stage, {})
    named = {
        keys.get(argument, argument).format(**making.wildcards): value
        for argument, value in settings.items()
    }
    return {name_key(key): value for key, value in _flatten(named)}


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


def _compare_inputs(
    before: Sequence[Sequence[str]], now: Sequence[Path], identify: Identify
) -> Iterator[Change]:
    """Differences in order: what a file holds counts, its name does not."""
    names, then = [name for name, _ in before], [identity for _, identity in before]
    found = [identify(path) for path in now]
    if then == found:
        return
    steps = SequenceMatcher(a=then, b=found, autojunk=False).get_opcodes()
    for step, first, last, start, stop in steps:
        if step == "equal":
            continue
        for old, new in zip_longest(range(first, last), range(start, stop)):
            if new is None:
                yield Change("input", names[old], "read", "no longer read")
            elif old is None:
                yield Change("input", str(now[new]), "not read", "read")
            else:
                yield Change("input", str(now[new]), *map(_shorten, (then[old], found[new])))


def _shorten(identity: str) -> str:
    return identity.split()[-1][:DIGITS]
