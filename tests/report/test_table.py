import csv
import io
import json
import math
import re

import pytest
from rich.console import Console

from spatialseg.report.table import Column, Table

COLUMNS = [
    Column("method", "method"),
    Column("data", "data set"),
    Column("images", "images"),
    Column("weighted_f", "Fw ↑", "higher"),
    Column("mae", "MAE_0", "lower", digits=2),
]
ROWS = [
    {"method": "a_1", "data": "x", "images": 3, "weighted_f": 0.123456789, "mae": 0.104, "resized": 2},
    {"method": "b|<c>", "data": "x", "images": 3, "weighted_f": 0.5, "mae": 0.101},
    {"method": "[red]", "data": "x", "images": 3, "weighted_f": 0.5, "mae": 0.2},
    {"method": "d", "data": "y", "images": 4, "weighted_f": 0.9, "mae": math.nan},
    {"method": "e", "data": "y", "images": 4, "weighted_f": 0.8, "mae": None},
]


@pytest.fixture
def table() -> Table:
    return Table(COLUMNS, ROWS, "50 % & more", "β² = 1", group="data")


def test_csv_and_json_hold_every_digit(table):
    first, *_, last = csv.DictReader(io.StringIO(table.csv()))
    assert first == {"method": "a_1", "data": "x", "images": "3", "weighted_f": "0.123456789", "mae": "0.104"}
    assert last["mae"] == ""
    content = json.loads(table.json())
    assert (content["title"], content["caption"]) == ("50 % & more", "β² = 1")
    assert content["rows"][0] == ROWS[0] and content["rows"][3]["mae"] is None


def test_markdown_marks_the_best_and_the_second_best_of_each_group(table):
    assert table.markdown() == (
        "**50 % & more**\n\n"
        "| method | data set | images | Fw ↑ | MAE_0 |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        "| a_1 | x | 3 | <u>0.1235</u> | **0.10** |\n"
        r"| b\|<c> | x | 3 | **0.5000** | **0.10** |"
        "\n| [red] | x | 3 | **0.5000** | <u>0.20</u> |\n"
        "| d | y | 4 | **0.9000** | – |\n"
        "| e | y | 4 | 0.8000 | – |\n"
        "\nβ² = 1\n"
    )


def test_latex_escapes_and_divides_groups(table):
    lines = table.latex().splitlines()
    assert lines[:4] == [
        "% 50 % & more",
        r"\begin{tabular}{llrrr}",
        r"\toprule",
        r"method & data set & images & Fw $\uparrow$ & MAE\_0 \\",
    ]
    assert lines[5] == r"a\_1 & x & 3 & \underline{0.1235} & \textbf{0.10} \\"
    assert [index for index, line in enumerate(lines) if line == r"\midrule"] == [4, 8]
    assert lines[-3:] == [r"\bottomrule", r"\end{tabular}", "% β² = 1"]


def test_html_escapes_and_carries_numbers_to_sort_by(table):
    text = table.html()
    assert "<caption>50 % &amp; more</caption>" in text and "<td>b|&lt;c&gt;</td>" in text
    assert '<td class="number" data-value="0.123456789"><u>0.1235</u></td>' in text
    assert '<td class="number" data-value="">–</td>' in text
    assert text.count("<tbody>") == 2 and "nan" not in text


def test_the_terminal_shows_names_as_they_are_and_numbers_to_the_right(table):
    console = Console(width=100, force_terminal=True)
    with console.capture() as captured:
        console.print(table.rich())
    assert "[red]" in captured.get() and "\x1b[1m0.9000" in captured.get()


def test_formats_are_written_side_by_side(table, tmp_path):
    paths = table.write(tmp_path / "new", "scores", ["csv", "json", "md", "tex", "html"])
    assert [path.name for path in paths] == [f"scores.{kind}" for kind in ("csv", "json", "md", "tex", "html")]
    assert paths[2].read_text(encoding="utf-8") == table.markdown()


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ([0.5], [""]),
        ([0.5, 0.5], ["", ""]),
        ([0.1, 0.5], ["", "**"]),
        ([0.1, 0.5, None], ["", "**", ""]),
        ([0.1, 0.5, 0.2], ["", "**", "<u>"]),
        ([0.20004, 0.20001, 0.1], ["**", "**", "<u>"]),
    ],
)
def test_only_what_can_be_told_apart_is_marked(values, marks):
    lines = Table([Column("x", "x", "higher")], [{"x": value} for value in values]).markdown().splitlines()[2:]
    assert [next(mark for mark in ("**", "<u>", "") if mark in line) for line in lines] == marks


def test_signs_and_counts():
    table = Table([Column("x", "Δ", signed=True), Column("n", "n")], [{"x": 0.5, "n": 7}, {"x": -0.25, "n": 12}])
    assert table.markdown().splitlines()[2:] == ["| +0.5000 | 7 |", "| -0.2500 | 12 |"]


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_gets_parts_and_every_number_in_full(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    columns = [Column("run", "run"), *(Column(f"m{index}", f"measure {index}") for index in range(9))]
    rows = [{"run": name, **{f"m{index}": (index + 1) / 7 for index in range(9)}} for name in ("one", "two")]
    Table(columns, rows, "A title", "A note.").print()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "…" not in shown and max(map(len, shown.splitlines())) <= width
    assert all(shown.count(f"{(index + 1) / 7:.4f}") == 2 for index in range(9))
    assert shown.count("A title") == shown.count("A note.") == 1 and shown.count("one") == shown.count("two") > 1
