"""What several files of tests share: a finished smallest world, and a real browser.

The browser has no network and forgets nothing a page complains about.
"""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from smallest_world import OVERLAYS, TARGETS, Undisturbed, everything
from workflow import World


@dataclass
class Visit:
    """A page of a file, everything it said to the console, and everything it asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("no chromium here; install the packages of apt-packages.txt first")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(browser):
    """Opens a file in a window of some size; at the end the page must not have complained."""
    visits = []

    def open_file(path: Path, size: tuple[int, int] = (1600, 950), address: str = "") -> Visit:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, offline=True, reduced_motion="reduce"
        )
        made = Visit(context.new_page())
        visits.append(made)
        made.page.on("console", lambda message: made.complaints.append(message.text))
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        made.page.on("request", lambda request: made.asked_for.append(request.url))
        made.page.goto(path.resolve().as_uri() + address)
        return made

    yield open_file
    for made in visits:
        assert made.complaints == []
        assert [url for url in made.asked_for if not url.startswith(("file://", "data:"))] == []
        made.page.context.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("undisturbed"), overlays=OVERLAYS)
    started = time.monotonic()
    answer = world.snakemake(*TARGETS)
    assert answer.succeeded, answer.text[-8000:]
    return Undisturbed(world, everything(world), time.monotonic() - started)
