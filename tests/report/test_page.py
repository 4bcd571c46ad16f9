import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from spatialseg.compare import open_runs, tabulate_differences, tabulate_figures
from spatialseg.report.page import make_page, picture

from .runs import make_run
from .scores import make_scores

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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


@pytest.fixture
def page(tmp_path) -> str:
    for seed in range(3):
        make_run(tmp_path, "a&b", make_scores(seed, count=300), seed)
        make_run(tmp_path, "wfb", make_scores(seed + 10, count=300, shift=0.1), seed, loss="wfb")
    return page_of(tmp_path, "a&b", "wfb")


def page_of(runs, *experiments: str) -> str:
    entries = open_runs([f"{experiment}/shapes" for experiment in experiments], runs)
    arms = [entry.arm for entry in entries]
    tables = [tabulate_figures(arms)] + ([tabulate_differences(arms)] if len(arms) > 1 else [])
    grey = picture(np.linspace(0, 1, 900).reshape(30, 30))
    return make_page(arms, [entry.runs for entry in entries], tables, [("sparrow", [("image", grey)])])


def test_the_page_is_whole_and_needs_nothing_else(page):
    tags = Tags(page)
    assert not tags.open and tags.found.count("script") == 1
    assert all(link.startswith("data:") for link in tags.links) and len(tags.links) == 2
    assert not re.search(r"https?://|@import|url\(", page)
    assert len(page) < 1_000_000
    assert "a&amp;b" in page and "a&b" not in page


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
    assert section["Image by image"].count("<circle") == 2 * 300
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
    assert "<h2>Worst and best</h2>" in page and "Differences" not in page


def test_pictures_are_small_and_classes_keep_their_colours(tmp_path):
    rng = np.random.default_rng(0)
    photograph = picture(rng.integers(0, 256, (900, 600, 3), dtype=np.uint8))
    indices = rng.integers(0, 3, (40, 50)).astype(np.uint8)
    indices[0, 0] = 255
    for name, data in (("photograph.jpg", photograph), ("classes.png", picture(indices, "tab20", 2))):
        (tmp_path / name).write_bytes(data)
    assert Image.open(tmp_path / "photograph.jpg").size == (267, 400)
    colours = np.asarray(Image.open(tmp_path / "classes.png"))
    assert (colours[0, 0] == 255).all() and len(np.unique(colours.reshape(-1, 3), axis=0)) == 4


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize(("width", "theme"), [(1280, 0), (500, 1)])
def test_in_a_browser_tables_sort_and_nothing_overflows(page, tmp_path, width, theme):
    probe = """<script>
    const head = [...document.querySelectorAll("th")].find((each) => each.textContent === "MAE");
    const cell = (row) => +row.cells[head.cellIndex].dataset.value;
    const column = () => [...head.closest("table").tBodies[0].rows].map(cell);
    head.click(); const down = column(); head.click(); const up = column();
    const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    const dark = getComputedStyle(document.body).backgroundColor;
    document.title = JSON.stringify({ down, up, wide, dark });
    </script></body>"""
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", probe), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    command += ["--disable-component-update", "--disable-sync", "--no-first-run", f"--window-size={width},900"]
    command += ["--enable-logging=stderr", f"--blink-settings=preferredColorScheme={1 - theme}"]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'browser'}", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr
    found = json.loads(re.search("<title>({.*?})</title>", done.stdout)[1])
    assert found["down"] == sorted(found["down"], reverse=True) and found["up"] == sorted(found["up"])
    assert found["wide"] <= 0
    assert found["dark"] == ("rgb(21, 23, 26)" if theme else "rgb(255, 255, 255)")
