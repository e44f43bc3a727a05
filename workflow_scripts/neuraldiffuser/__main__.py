"""What can be asked of an experiment without running it: ``neuraldiffuser explain`` and others."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from neuraldiffuser.errors import NeuralDiffuserError

# Modules of neuraldiffuser.inspection, each with add_arguments(parser) and run(arguments) -> int.
COMMANDS = {
    "plan": "count jobs, hours, disk and download before anything runs",
    "check": "look for what an experiment lacks on this machine",
    "explain": "say, key by key, what would run now and why",
    "verify": "compare every artefact on disk with what its sidecar says of it",
}


def main(words: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status, 0 if all is well.

    Args:
        words: of the command line, by default this process's.
    """
    words = sys.argv[1:] if words is None else words
    arguments = make_parser(words).parse_args(words)
    try:
        status = import_module(f"neuraldiffuser.inspection.{arguments.command}").run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # its reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except NeuralDiffuserError as error:
        print(error, file=sys.stderr)
        return 1


def make_parser(words: Sequence[str]) -> ArgumentParser:
    """A parser of every command, each of which is about the experiment that overlays choose.

    Only the module of a command among the ``words`` is imported: Snakemake, for one, takes seconds.
    """
    parser = ArgumentParser(prog="neuraldiffuser", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=f"To {purpose}.")
        command.add_argument(
            "--configfile",
            dest="configfiles",
            metavar="OVERLAY",
            type=Path,
            nargs="+",
            default=[],
            help="files over config.yaml, as for snakemake",
        )
        if name in words:
            import_module(f"neuraldiffuser.inspection.{name}").add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
