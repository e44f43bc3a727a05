import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from neuraldiffuser import storage
from neuraldiffuser.config.fidelity import EFFECTS
from neuraldiffuser.config.models import PinnedFile
from neuraldiffuser.reporting import catalogue, report, tables
from neuraldiffuser.reporting.models_table import list_models
from neuraldiffuser.reporting.result import write_figure
from neuraldiffuser.reporting.sources import Sources

FOLDER = Path(report.__file__).parent
PAPER = Path(__file__).parents[2] / "resources" / "paper_tables"


@pytest.fixture(scope="module")
def evidence(world, experiment, drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    for name, figure in drawn.items():
        paths = [folder / f"{name}{ending}" for ending in (".png", ".csv", ".json")]
        write_figure(figure, path_to_image=paths[0], path_to_data=paths[1], path_to_words=paths[2])
    for name, kinds in catalogue.TABLES.items():
        sources = Sources({k: world.paths(k) for k in kinds})
        made = tables.make_table(name, sources=sources, experiment=experiment, paper=PAPER)
        storage.write_table(folder / f"{name}.csv", made.entries)
    storage.write_bytes(folder / "index.html", b"the gallery's page")
    return report.Evidence(
        figures=[folder / f"{name}.png" for name in catalogue.FIGURES],
        tables=[folder / f"{name}.csv" for name in catalogue.TABLES],
        gallery=folder / "index.html",
        effects=EFFECTS,
        calibrations=world.paths("calibrations"),
        models=world.paths("models"),
        findings=world.results / "findings.json",
        region_pictures=sorted(world.results.glob("figures/regions_*.png")),
        data_card={
            "subjects": world.results / "voxels/subjects.csv",
            "regions": world.results / "voxels/data_card.csv",
            "trials": world.results / "voxels/trials.csv",
        },
    )


def render(evidence, config):
    return report.render_report(
        evidence,
        description=config.description,
        template=FOLDER / "report.html.jinja",
        style=FOLDER / "report.css",
        program=FOLDER / "report.js",
    )


@pytest.fixture(scope="module")
def page(evidence, config):
    return render(evidence, config)


class Elements(HTMLParser):
    """Collects start tags with attributes, and checks that tags are closed in order."""

    VOID = {"meta", "img", "link", "br", "hr", "input"}

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def elements(page):
    parser = Elements()
    parser.feed(page)
    assert not parser.open
    return parser.found


def text_of(page, section):
    inside = re.search(rf'<section id="{section}">(.*?)</section>', page, re.DOTALL)[1]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", inside)))


def test_nothing_is_loaded_from_elsewhere(page):
    for tag, attributes in elements(page):
        assert tag not in ("link", "iframe", "object", "embed")
        assert attributes.get("src", "data:").startswith("data:")
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "@import" not in without_scripts and "url(" not in without_scripts


def test_every_picture_has_a_text_that_states_its_result(page):
    pictures = [attributes for tag, attributes in elements(page) if tag == "img"]
    assert all(attributes["alt"].strip() for attributes in pictures)
    missing = re.findall(r'<p class="pending">(.+?)</p>', page)
    assert missing
    assert len(pictures) + len(missing) == len(catalogue.FIGURES) + 2  # sheets of the gallery


def test_no_two_parts_of_the_page_share_an_address(page):
    names = [attributes["id"] for _, attributes in elements(page) if "id" in attributes]
    assert len(names) == len(set(names))


def test_the_gallery_and_its_sheets_can_be_opened_from_the_page(page, world):
    links = [attributes.get("href") for tag, attributes in elements(page) if tag == "a"]
    assert "gallery/index.html" in links
    for variant in world.variants:
        whose = ["stimulus"] if variant.startswith("ground_truth") else world.subjects
        assert {f"gallery/{variant}/{subject}.png" for subject in whose} <= set(links)


def test_the_same_results_give_the_same_bytes(evidence, config, page):
    assert render(evidence, config) == page


def test_the_title_names_the_reading(page):
    title = re.search(r"<title>(.*?)</title>", page)[1]
    assert title == "An invented world (released reading: MLP branches of blocks 1–6)"


def test_sentences_follow_the_findings(page, world):
    findings = storage.read_json(world.results / "findings.json")
    told = text_of(page, "findings")
    assert "1 of 2 claims" in told
    for claim in findings["claims"]:
        assert claim["name"][1:] in told
    assert "+0.091 [+0.066, +0.117] correlation, n = 12 images, p = 0.0015" in told
    assert "−3.1 [−7.1, +1.0] points, n = 12 images" in told
    assert "31.5 [29.0, 33.8] times chance, n = 12 images" in told


def test_the_findings_say_what_their_numbers_are(page, config):
    told = text_of(page, "findings")
    assert "Brackets are 95 % bootstrap intervals." in told
    assert "test images, each averaged over 5 repeats and 2 subjects first" in told
    assert "adjusted by Holm over the measures of one comparison" in told
    bootstrap = config.evaluation.bootstrap.model_copy(update={"level": 0.9})
    evaluation = config.evaluation.model_copy(update={"bootstrap": bootstrap})
    changed = config.model_copy(update={"evaluation": evaluation}).description
    assert report.tell_how_to_read(changed).startswith("Brackets are 90 % bootstrap")


def test_nothing_is_said_of_when_claims_were_fixed(page):
    assert "before anything was measured" not in text_of(page, "findings")
    assert "1 of 2 claims that the configuration names hold." in text_of(page, "findings")


def test_sentences_stand_under_what_they_are_about():
    observed = {"name": "a", "estimate": 0.1, "interval": [0, 1], "n": 5, "unit": "index"}
    observed |= {"counted": "image", "is_difference": False, "p_holm": None}
    told = report.tell_findings(
        {
            "claims": [],
            "observations": [
                observed | {"sentence": "Detail rises.", "about": "sweep"},
                observed | {"sentence": "The controls gain nothing.", "about": "guidance"},
                observed,
            ],
        }
    )
    assert told["topics"] == [
        ("Guidance beside its controls", ["The controls gain nothing."]),
        ("As guidance grows", ["Detail rises."]),
    ]
    assert len(told["observations"]) == 1


def test_calibrated_scales_are_told_by_function(page):
    assert "ground truth, guided CLIP layers ground truth 41.5 0.500" in text_of(page, "made")


def test_what_the_controls_reach_is_told_in_sentences_and_not_twice(page):
    told = text_of(page, "findings")
    assert "The decoder falls short of ridge regression by 0.04." in told
    assert "decoder minus ridge regression" not in told.lower()
    assert "Observed besides, without a claim (1)" in told


@pytest.mark.parametrize("index", [0, 1])
def test_turning_a_finding_turns_its_sentence(evidence, config, world, tmp_path, index):
    findings = storage.read_json(world.results / "findings.json")
    before = findings["claims"][index]["holds"]
    findings["claims"][index]["holds"] = not before
    (tmp_path / "findings.json").write_text(json.dumps(findings))
    turned = render(
        report.Evidence(**{**vars(evidence), "findings": tmp_path / "findings.json"}), config
    )
    items = re.findall(r'<li class="(holds|fails)">', turned)
    assert items[index] == ("fails" if before else "holds")
    warned = f"This claim does not hold: {findings['claims'][index]['name']}." in html.unescape(
        turned
    )
    assert warned == before


def test_on_paper_a_picture_stands_for_every_plot(page):
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    assert ".in-print { display: none; }" in style
    printed = style.split("@media print")[1]
    assert ".on-screen { display: none; }" in printed and ".in-print { display: block; }" in printed
    plots = re.findall(r'<div class="plot" id="plot-(\w+)"', page)
    assert "differences" in plots and "metrics" in plots
    for name in plots:
        figure = re.search(rf'<figure id="{name}">(.*?)</figure>', page, re.DOTALL)[1]
        assert re.search(r'<div class="plate in-print"><img src="data:image/png', figure)


def test_the_total_time_stands_above_the_fold(page):
    made = text_of(page, "made")
    assert re.search(r"All stages together: \d+ s\.", made)


def test_the_data_card_tells_what_its_tables_hold(page, world):
    told = text_of(page, "data")
    assert "Not NSD's data: nothing to compare (subj01 and subj02)." in told
    assert "subj02 1 050 7 4 6 voxel-sessions 5 5 " in told
    assert "subj01 4 350 1 450 0 0 % 0 0 % 1 450 100 % 36 12 " in told
    assert "31.4 [8, 63] (210)" in told
    for subject in world.subjects:
        assert f"Where the voxels of {subject} lie" in told


def test_models_are_told_with_their_digests(page):
    told = text_of(page, "made")
    weights = "alexnet-owt-7be5be79.pth"
    unet = "unet/diffusion_pytorch_model.safetensors"
    digests = {name: hashlib.sha256(name.encode()).hexdigest()[:12] for name in (weights, unet)}
    assert f" alexnet {digests[weights]} pinned judge BSD-3-Clause" in told
    assert f" unet {digests[unet]} pinned " in told
    assert " hf://CompVis/stable-diffusion-v1-4@133a221b8aa7 " in told
    assert "deepcluster" not in told, "no judge uses SwAV"
    assert "tokenizer" not in told, "the table shows weights alone"


def test_an_unpinned_model_and_ones_own_folder_are_told(world, config):
    own = config.models.zoo["alexnet"].model_copy(
        update={"folder": "/mine", "files": {"alexnet-owt-7be5be79.pth": PinnedFile()}}
    )
    table = list_models({"alexnet": own}, world.paths("models"))
    (row,) = table.to_dict("records")
    assert (row["source"], row["digest"]) == ("/mine", "not pinned")


def test_a_model_may_be_named_like_a_part_of_another(tmp_path, config):
    whole = config.models.zoo["stable-diffusion-v1-4"]
    part = config.models.zoo["sd-image-variations-vae"]
    zoo = {"stable-diffusion": whole, "vae": part}
    receipts = [
        tmp_path / "models" / name / f"{file}.json" for name in zoo for file in zoo[name].files
    ]
    for number, receipt in enumerate(receipts):
        storage.write_json(receipt, {"size": 1, "sha256": f"{number:012}" * 4})
    table = list_models(zoo, receipts).set_index("part")
    assert list(table["model"]) == ["stable-diffusion", "", "", "vae"]
    assert table["sha256"].is_unique


def test_warnings_are_always_there(page):
    told = text_of(page, "warnings")
    assert "subj02 lacks sessions that the bucket does not hold: 5." in told
    assert "subj01 lacks" not in told
    failures, not_run = told.split("Not run in this experiment")
    assert "Guidance scale and strength (Fig. 8)" in not_run
    assert "Guidance scale and strength (Fig. 8)" not in failures
    assert "rows of Table 4" in not_run and "pending" not in failures
    assert "among 30" not in failures and "mean over subjects" not in failures
    assert "has no provenance sidecar" in told


def test_without_trouble_the_warnings_say_so():
    findings = {"claims": [{"name": "a", "holds": True}], "observations": []}
    assert report.list_warnings(findings, [{"not_computed": []}], unsigned=[]) == []
    assert report.tell_not_run([{"pending": ""}], [{"pending": []}]) == ""


def test_a_metric_that_could_not_be_computed_is_a_warning_once():
    findings = {"claims": [], "observations": []}
    table = {"not_computed": ["LPIPS: not computed: no weights."]}
    assert report.list_warnings(findings, [table, table], unsigned=[]) == table["not_computed"]


def test_a_world_of_its_own_is_called_so(page, evidence, config):
    assert "No number here can be compared" in page
    own = config.model_copy(
        update={"report": config.report.model_copy(update={"paper_values": "comparable"})}
    )
    assert "No number here can be compared" not in render(evidence, own)


def test_names_are_escaped(evidence, config):
    named = config.report.model_copy(update={"title": "<b>bold</b> & more"})
    page = render(evidence, config.model_copy(update={"report": named}))
    assert "<h1>&lt;b&gt;bold&lt;/b&gt; &amp; more</h1>" in page


def test_no_claims_is_said_in_words():
    told = report.tell_findings({"claims": [], "observations": []})
    assert told["verdict"].startswith("This experiment makes no claim")


def test_departures_from_a_reading_are_listed(config):
    assert report.tell_departures(config.description) == (
        "Every switch stands as in the released reading."
    )
    changed = config.reconstruction.model_copy(update={"tweedie": "exact"})
    departed = config.model_copy(update={"reconstruction": changed}).description
    assert "but for reconstruction.tweedie (exact)." in report.tell_departures(departed)
