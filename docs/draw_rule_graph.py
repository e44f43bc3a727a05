"""Draws the rules and what they hand to each other into docs/architecture.md (``make graph``).

Snakemake draws the graph of two experiments, the paper's and the miniature; both are joined, named
by rule and grouped by rule file, so that the picture changes only where the rules do. An arrow that
a longer way implies is left out.
"""

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "architecture.md"
BLOCK = re.compile(r"(<!-- rule graph -->\n).*?(<!-- end of rule graph -->)", re.DOTALL)
EXPERIMENTS = ((), ("--configfile", "config/fidelity/corrected.yaml", "config/mini.yaml"))
TARGET = "all"


def ask_snakemake(options: tuple[str, ...]) -> str:
    """The rule graph of one experiment in Snakemake's own mermaid text."""
    command = [sys.executable, "-m", "snakemake", *options, "--rulegraph", "mermaid-js"]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout


def read_edges(text: str) -> set[tuple[str, str]]:
    """(maker, user) pairs of rules in mermaid text."""
    names = dict(re.findall(r"^\s*(id\d+)\[([^\]\\\"]+)", text, re.MULTILINE))
    pairs = re.findall(r"^\s*(id\d+) --> (id\d+)", text, re.MULTILINE)
    return {(names[maker], names[user]) for maker, user in pairs}


def read_files() -> dict[str, list[str]]:
    """The rules of each rule file, files in the order of the Snakefile."""
    order = re.findall(r'include: "rules/(\w+)\.smk"', (REPOSITORY / "Snakefile").read_text())
    return {
        name: re.findall(r"^rule (\w+):", (REPOSITORY / f"rules/{name}.smk").read_text(), re.M)
        for name in order
    }


def reduce(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges that no longer way implies."""
    following: dict[str, set[str]] = {}
    for maker, user in edges:
        following.setdefault(maker, set()).add(user)
    return {
        (maker, user)
        for maker, user in edges
        if not any(reaches(other, user, following) for other in following[maker] - {user})
    }


def reaches(start: str, end: str, following: dict[str, set[str]]) -> bool:
    """Whether ``end`` can be reached from ``start``."""
    return start == end or any(reaches(n, end, following) for n in following.get(start, ()))


def draw(edges: set[tuple[str, str]], files: dict[str, list[str]]) -> str:
    """Mermaid text: a box per rule file, an arrow per hand-over, without the final target."""
    shown = sorted(reduce({edge for edge in edges if TARGET not in edge}))
    used = {name for edge in shown for name in edge}
    lines = ["```mermaid", "flowchart TB"]
    for file, rules in files.items():
        inside = [name for name in rules if name in used]
        if inside:
            lines += [f"  subgraph {file}", *(f"    {name}" for name in inside), "  end"]
    lines += [f"  {maker} --> {user}" for maker, user in shown]
    return "\n".join([*lines, "```", ""])


def redraw(page: str, graph: str) -> str:
    """The page with the graph between its two marks."""
    return BLOCK.sub(lambda match: match[1] + graph + match[2], page)


def main() -> None:
    """Rewrites the graph in docs/architecture.md."""
    edges = set().union(*(read_edges(ask_snakemake(options)) for options in EXPERIMENTS))
    page = redraw(PAGE.read_text(encoding="utf-8"), draw(edges, read_files()))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
