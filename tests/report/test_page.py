import base64
import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from spatialseg.report.comparison import tabulate_differences, tabulate_figures
from spatialseg.report.entries import open_entries
from spatialseg.report.page import Example, Picture, make_page, small
from spatialseg.report.sheet import map_pixels

from .runs import make_run
from .scores import make_scores

MANY = 13  # pictures in a row, as six runs have


class Tags(HTMLParser):
    """Checks that tags are closed in order, and collects what is referred to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href")]
        if tag not in ("meta", "link", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    runs = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        make_run(runs, "a&b", make_scores(seed, count=300), seed)
        make_run(runs, "wfb", make_scores(seed + 10, count=300, shift=0.1), seed, loss="wfb")
    return page_of(runs, "a&b", "wfb")


def page_of(runs, *experiments: str) -> str:
    entries = open_entries([f"{experiment}/shapes" for experiment in experiments], runs)
    arms = [entry.arm for entry in entries]
    tables = [tabulate_figures(entries)] + ([tabulate_differences(arms)] if len(arms) > 1 else [])
    grey = map_pixels(np.linspace(0, 1, 900).reshape(30, 30))
    pictures = [Picture("image", grey), *MANY * [Picture("map", grey)]]
    return make_page(entries, tables, [Example("<sparrow>", pictures, [Picture("bce: 0.5", grey)])])


def test_the_page_is_whole_and_needs_nothing_else(page):
    tags = Tags(page)
    assert not tags.open and tags.found.count("script") == 1
    assert all(link.startswith("data:") for link in tags.links) and len(tags.links) == 3 + MANY
    assert not re.search(r"https?://|@import|url\(", page)
    assert len(page) < 1_000_000
    assert "a&amp;b" in page and "a&b" not in page and "&lt;sparrow&gt;" in page and "<sparrow>" not in page


def test_every_part_is_there(page):
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles == [
        "Measures",
        "Differences",
        "Seeds",
        "Over thresholds",
        "Image by image",
        "Where they disagree most",
        "All images",
        "Training",
        "Settings that differ",
    ]
    section = {title: page.split(f"<h2>{title}</h2>")[1].split("</section>")[0] for title in titles}
    assert section["Seeds"].count("<circle") == 4 * 6 and "01234567</td>" in section["Seeds"]
    assert section["Image by image"].count("<circle") == 2 * 300 + 2  # a median each
    assert "First where wfb loses most against a&amp;b" in section["Where they disagree most"]
    assert section["All images"].count("<tr>") == 301
    assert section["Training"].count("<svg") == 2 and "test/mae" not in section["Training"]
    assert re.findall("<td>(.*?)</td>", section["Settings that differ"]) == [
        *("model.loss.bce.name", "bce", "–", "model.loss.bce.weight", "1.0", "–"),
        *("model.loss.wfb.name", "–", "wfb", "model.loss.wfb.weight", "–", "1.0"),
    ]


def test_several_classes_have_a_table_per_measure(tmp_path):
    make_run(tmp_path, "ce", make_scores(0, classes=("road", "car")))
    page = page_of(tmp_path, "ce")
    assert "<h2>Classes</h2>" in page and page.count('<th scope="col" class="number">road</th>') == 3
    assert "<h2>Worst and best</h2>" in page and "Differences" not in page and "loses most" not in page
    assert page.count("Score against the size of the object</text>") == 1


def test_pictures_are_small_and_classes_keep_their_colours():
    rng = np.random.default_rng(0)
    photograph = image_of(Picture("a photograph", rng.integers(0, 256, (900, 600, 3), dtype=np.uint8)))
    assert photograph.size == (267, 400) and photograph.format == "JPEG"
    indices = rng.integers(0, 3, (40, 50)).astype(np.uint8)
    indices[0, 0] = 255
    classes = image_of(Picture("classes", map_pixels(indices, 3), exact=True))
    assert np.array_equal(np.asarray(classes), map_pixels(indices, 3))


def image_of(picture: Picture) -> Image.Image:
    """Return the image that the page holds, whose size it tells."""
    width, height, source = small(picture, 400)
    image = Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))
    assert image.size == (width, height)
    return image


@pytest.fixture(scope="module")
def browser():
    """Start the system's Chromium, or say why not."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium is installed here")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    quiet = ("background-networking", "component-update", "quic", "sync", "gpu")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{each}" for each in quiet)]
        with driver.chromium.launch(executable_path=chromium, args=arguments) as browser:
            yield browser


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_in_a_browser_tables_sort_pictures_zoom_and_nothing_overflows(browser, page, tmp_path, width, theme):
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    shown = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=theme, offline=True)
    said, asked = [], []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(path.as_uri())

    assert shown.evaluate("document.documentElement.scrollWidth") == width
    back = {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 26)"}[theme]
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == back

    head = shown.locator("th", has_text="MAE").first
    cells = shown.locator(f"table >> nth=0 >> tr td:nth-child({head.evaluate('head => head.cellIndex') + 1})")
    for order, reverse in (("descending", True), ("ascending", False)):
        head.click()
        values = [float(text) for text in cells.all_inner_texts()]
        assert head.get_attribute("aria-sort") == order and len(values) == 2
        assert values == sorted(values, reverse=reverse) and values[0] != values[1]

    photograph = shown.get_by_alt_text("image", exact=True)
    small = photograph.bounding_box()
    assert 60 < small["width"] <= width
    photograph.click()
    assert photograph.bounding_box() == {"x": 0, "y": 0, "width": width, "height": 800}
    photograph.click()
    assert photograph.bounding_box()["width"] == small["width"]

    anatomy = shown.get_by_alt_text("bce: 0.5")
    assert not anatomy.is_visible()
    shown.get_by_text("How the scores come about").click()
    assert anatomy.is_visible() and shown.evaluate("document.documentElement.scrollWidth") == width
    assert not said and [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    shown.close()
