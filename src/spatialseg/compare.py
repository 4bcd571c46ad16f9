"""Runs against runs, and against scored maps: the same test images, the measures side by side, where they differ.

Their folders are all that is needed, and pictures need the photographs as well.
"""

from collections.abc import Sequence
from pathlib import Path

from spatialseg.data.files import check_folder
from spatialseg.hints import command_parser
from spatialseg.report.comparison import tabulate_differences, tabulate_figures
from spatialseg.report.entries import open_entries
from spatialseg.report.examples import draw, examples
from spatialseg.report.page import make_page

FORMATS = ("csv", "json", "md", "tex")


def main(args: Sequence[str]) -> None:
    """Compare runs from the command line.

    Raises:
        SystemExit: With status 2 when the runs cannot be compared, or nothing can be written.
    """
    parser = command_parser(
        "compare", "Show runs side by side, on the same test images.", "saliency_bce/ecssd saliency_wfb/ecssd --html"
    )
    parser.add_argument(
        "names",
        nargs="+",
        metavar="RUN",
        help="run folder, EXPERIMENT/DATA for all its seeds, or folder that score wrote to; the baseline first",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--out", type=Path, help="folder for tables and picture; comparison in the folder of all runs")
    parser.add_argument("--images", type=int, default=5, help="how many images to draw")
    parser.add_argument("--html", action="store_true", help="write a page, too: comparison.html")
    options = parser.parse_args(args)
    out = options.out or options.runs / "comparison"
    try:
        check_folder(out)
        entries = open_entries(options.names, options.runs)
    except (ValueError, OSError) as error:
        parser.exit(2, f"spatialseg compare: {error}\n")
    tables = {"comparison": tabulate_figures(entries)}
    if len(entries) > 1:
        tables["differences"] = tabulate_differences([entry.arm for entry in entries])
    for stem, table in tables.items():
        table.print()
        table.write(out, stem, FORMATS)
    written = [f"{stem}.{{{','.join(FORMATS)}}}" for stem in tables]
    shown = []
    if options.images > 0:
        try:
            draw(entries, options.images).save(out / "comparison.png")
            written.append("comparison.png")
            shown = examples(entries, 2 * options.images) if options.html else []
        except ValueError as error:
            print(f"No picture: {error}")
    if options.html:
        page = make_page(entries, list(tables.values()), shown)
        (out / "comparison.html").write_text(page, encoding="utf-8")
        written.append("comparison.html")
    print(f"Written to {out}: {', '.join(written)}")
