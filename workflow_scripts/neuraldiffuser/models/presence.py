"""Which models of an experiment are there. Apart from how they are read: plans change no result."""

from pathlib import Path

from neuraldiffuser.config.root import Config


def name_place(config: Config, name: str) -> str:
    """The folder of a model's files, or the Python package that brings them."""
    model = config.models.zoo[name]
    if model.is_packaged:
        return model.source
    return model.folder or f"{config.paths.models}/{name}"


def list_absent(config: Config, name: str) -> list[str]:
    """Files of a model that are not in its folder."""
    model = config.models.zoo[name]
    if model.is_packaged:
        return []
    folder = Path(name_place(config, name))
    return [file for file in model.files if not (folder / file).is_file()]


def is_skipped(config: Config, name: str) -> bool:
    """Whether a model that lacks files is done without, as one of the judges."""
    may_be = config.evaluation.missing_weights == "skip" and name in config.judging_models
    return may_be and bool(list_absent(config, name))
