"""A real browser, without a network, that forgets nothing a page complains about."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright


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
