"""The miniature at its full size: its claims hold, and its report opens in a browser.

About twenty minutes on two cores; needs Debian's chromium (apt-packages.txt).
"""

import os
import shutil
import subprocess
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


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_report_opens_in_a_browser(results, tmp_path, size):
    picture = tmp_path / "page.png"
    browse(results, tmp_path, f"--screenshot={picture}", f"--window-size={size[0]},{size[1]}")
    with Image.open(picture) as image:
        colours = image.convert("RGB").resize((64, 64)).getcolors(64 * 64)
    assert len(colours) > 100, "the page is blank or nearly so"


def test_the_page_says_what_the_findings_say(results, tmp_path):
    page = browse(results, tmp_path, "--dump-dom")
    for claim in storage.read_json(results / "findings.json")["claims"]:
        sentence = claim["name"]
        assert sentence[0].upper() + sentence[1:] in page


def browse(results, tmp_path, *arguments: str) -> str:
    """Opens the report in a headless browser; returns what it prints."""
    browser = shutil.which("chromium")
    assert browser, "install the packages of apt-packages.txt first"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command = [browser, *options, *quiet, f"--user-data-dir={tmp_path / 'profile'}", *arguments]
    address = (results / "report.html").resolve().as_uri()
    answer = subprocess.run([*command, address], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout
