"""The miniature at its full size: its claims hold, and a browser opens its report and gallery.

About forty minutes on two cores; needs Debian's chromium (apt-packages.txt).
"""

import os
from pathlib import Path

import pytest
from PIL import Image
from workflow import CORRECTED, MINIATURE, World

from neuraldiffuser import storage

pytestmark = pytest.mark.system
DESKTOP, PHONE = (1280, 2000), (390, 2000)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The finished miniature, in a folder of its own; DEMO names a finished one to look at."""
    if "DEMO" in os.environ:
        return World(Path(os.environ["DEMO"]), overlays=(CORRECTED, MINIATURE))
    world = World(tmp_path_factory.mktemp("demo"), overlays=(CORRECTED, MINIATURE))
    answer = world.snakemake()
    assert answer.succeeded, answer.text[-8000:]
    return world


@pytest.fixture(scope="module")
def results(demo):
    return demo.folder / "results/mini"


def test_every_claim_holds(results):
    claims = storage.read_json(results / "findings.json")["claims"]
    assert len(claims) >= 10
    failed = [claim for claim in claims if not claim["holds"]]
    assert not failed, "\n".join(str(claim) for claim in failed)


def test_snakemakes_own_report_is_made(demo):
    answer = demo.snakemake("--report", "report.zip")
    assert answer.succeeded, answer.text[-3000:]
    assert (demo.folder / "report.zip").stat().st_size > 100_000


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(visit, results, request):
    return visit(results / "report.html", request.param).page


def test_the_report_opens_in_a_browser(page, tmp_path):
    picture = tmp_path / "page.png"
    page.screenshot(path=picture)
    with Image.open(picture) as image:
        colours = image.convert("RGB").resize((64, 64)).getcolors(64 * 64)
    assert len(colours) > 100, "the page is blank or nearly so"
    assert page.evaluate("document.body.scrollWidth <= window.innerWidth")


def test_the_page_says_what_the_findings_say(page, results):
    told = page.inner_text("#findings")
    for claim in storage.read_json(results / "findings.json")["claims"]:
        sentence = claim["name"]
        assert sentence[0].upper() + sentence[1:] in told


def test_the_page_leads_to_its_sections_and_unfolds(page):
    page.click("nav a[href='#tables']")
    assert page.evaluate("document.getElementById('tables').getBoundingClientRect().top") < 100
    hidden = page.locator("details:has-text('Every switch') table")
    assert not hidden.is_visible()
    page.click("summary:text-is('Every switch')")
    assert hidden.is_visible()


def test_a_plot_shows_its_values_and_hides_what_is_clicked(visit, results):
    page = visit(results / "report.html", DESKTOP).page
    page.locator("#differences").scroll_into_view_if_needed()
    points = page.locator("#plot-differences .scatterlayer .trace:visible")
    points.first.wait_for()
    before = points.count()
    points.first.locator(".point").hover(force=True)
    assert "n = " in page.locator("#plot-differences .hoverlayer").text_content()
    page.locator("#plot-differences .legendtoggle").first.click(force=True)
    page.wait_for_function(
        "before => document.querySelectorAll('#plot-differences .scatterlayer .trace').length"
        " < before",
        arg=before,
    )


def test_the_gallery_opens_from_the_report(visit, results):
    page = visit(results / "report.html", DESKTOP).page
    page.click("a[href='gallery/index.html']")
    page.wait_for_function("document.body.dataset.ready && document.images.length > 5")
    assert page.locator(".card").count() > 2
    assert "cannot be read" not in page.inner_text("#count")
