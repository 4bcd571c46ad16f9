"""One table, for the terminal, spreadsheets, programs, READMEs, papers and browsers."""

import csv
import html
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spatialseg.scores import Measure

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Cell = str | int | float | None

DASH = "–"
_LATEX = str.maketrans(
    {mark: f"\\{mark}" for mark in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}", "Δ": r"$\Delta$", "β": r"$\beta$", "²": "$^2$"}
    | {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "−": "$-$", "×": r"$\times$"}
)


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        key: What the rows call it; the header of the CSV file.
        label: The header everywhere else.
        better: Which numbers are marked: the highest, the lowest, or none.
        digits: Decimals shown of a float; CSV and JSON hold them all.
        signed: Show a plus sign, too.
    """

    key: str
    label: str
    better: Literal["higher", "lower"] | None = None
    digits: int = 4
    signed: bool = False

    def show(self, value: Cell) -> str:
        """Return a value as text; nothing, or no number, is a dash."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return DASH
        return f"{value:{'+' if self.signed else ''}.{self.digits}f}" if isinstance(value, float) else str(value)


def columns_of(measures: Iterable[Measure], digits: int = 4) -> list[Column]:
    """Return a column for each measure."""
    return [Column(measure.name, measure.label, measure.better, digits) for measure in measures]


@dataclass(frozen=True)
class Table:
    """Rows under columns, the best and the second best of each column marked as papers do.

    The best is bold. The second best is underlined, where there are three or more to choose from. What looks alike at
    the digits shown is marked alike, and a column whose numbers all look alike is not marked.

    Args:
        columns: What is shown, from left to right.
        rows: Values by column key; a missing one, None or NaN is shown as a dash. Further keys go to JSON alone.
        title: Stands above the table.
        caption: Stands below it: the conventions that the numbers rest on.
        group: Key of the column within whose (adjacent) equal values the best is sought, such as the data set.
        facts: What else the JSON file is to say, for programs.
    """

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Cell]]
    title: str = ""
    caption: str = ""
    group: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def csv(self) -> str:
        """Return the table as CSV: keys as header, numbers in full."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(column.key for column in self.columns)
        writer.writerows(([_plain(row.get(column.key)) for column in self.columns]) for row in self.rows)
        return file.getvalue()

    def json(self) -> str:
        """Return title, caption, facts and rows as JSON, numbers in full."""
        rows = [{key: _plain(value) for key, value in row.items()} for row in self.rows]
        return json.dumps({"title": self.title, "caption": self.caption, **self.facts, "rows": rows}, indent=2) + "\n"

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown."""
        marks = {"": "{}", "best": "**{}**", "second": "<u>{}</u>"}
        lines = [
            [column.label for column in self.columns],
            ["---:" if right else "---" for right in self._numeric()],
            *(cells for group in self._groups(marks, lambda text: text.replace("|", r"\|")) for cells in group),
        ]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return (f"**{self.title}**\n\n" if self.title else "") + table + (f"\n{self.caption}\n" if self.caption else "")

    def latex(self) -> str:
        """Return a `tabular` for the package booktabs; title and caption are comments."""
        marks = {"": "{}", "best": "\\textbf{{{}}}", "second": "\\underline{{{}}}"}
        head = " & ".join(column.label.translate(_LATEX) for column in self.columns)
        body = "\\midrule\n".join(
            "".join(" & ".join(cells) + " \\\\\n" for cells in group)
            for group in self._groups(marks, lambda text: text.translate(_LATEX))
        )
        return (
            (f"% {self.title}\n" if self.title else "")
            + f"\\begin{{tabular}}{{{''.join('r' if right else 'l' for right in self._numeric())}}}\n"
            + f"\\toprule\n{head} \\\\\n\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"
            + (f"% {self.caption}\n" if self.caption else "")
        )

    def html(self) -> str:
        """Return a `<table>`; cells of numbers are of a class and carry them in full as `data-value`, for sorting."""
        marks = {"": "{}", "best": "<strong>{}</strong>", "second": "<u>{}</u>"}
        kinds = [' class="number"' if right else "" for right in self._numeric()]
        labels = zip(self.columns, kinds, strict=True)
        head = "".join(f'<th scope="col"{kind}>{html.escape(column.label)}</th>' for column, kind in labels)
        values = iter(self.rows)
        body = ""
        for group in self._groups(marks, html.escape):
            body += "<tbody>\n"
            for cells in group:
                row = next(values)
                body += "<tr>"
                for column, kind, cell in zip(self.columns, kinds, cells, strict=True):
                    value = _plain(row.get(column.key))
                    number = f' data-value="{"" if value is None else repr(value)}"' if kind else ""
                    body += f"<td{kind}{number}>{cell}</td>"
                body += "</tr>\n"
            body += "</tbody>\n"
        caption = f"<caption>{html.escape(self.title)}</caption>\n" if self.title else ""
        note = f"<p>{html.escape(self.caption)}</p>\n" if self.caption else ""
        return f"<table>\n{caption}<thead><tr>{head}</tr></thead>\n{body}</table>\n{note}"

    def rich(self) -> "RichTable":
        """Return the table for a terminal."""
        from rich.markup import escape
        from rich.table import Table as RichTable

        table = RichTable(title=self.title or None, caption=escape(self.caption) or None, caption_justify="left")
        for column, right in zip(self.columns, self._numeric(), strict=True):
            table.add_column(escape(column.label), justify="right" if right else "left")
        marks = {"": "{}", "best": "[bold]{}[/]", "second": "[underline]{}[/]"}
        for group in self._groups(marks, escape):
            for cells in group:
                table.add_row(*cells)
            table.add_section()
        return table

    def print(self) -> None:
        """Print the table, in parts where the terminal is too narrow; what is no terminal is 160 characters wide."""
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
        for part in self._parts(console.width):
            console.print(part.rich())

    def write(self, folder: Path, stem: str, formats: Iterable[str]) -> list[Path]:
        """Write the table to `folder/stem.<format>`.

        Args:
            folder: Made if need be.
            stem: The files' common name.
            formats: Of `csv`, `json`, `md`, `tex`, `html`.

        Returns:
            The files written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        writers = {"csv": self.csv, "json": self.json, "md": self.markdown, "tex": self.latex, "html": self.html}
        paths = []
        for kind in formats:
            paths.append(folder / f"{stem}.{kind}")
            paths[-1].write_text(writers[kind](), encoding="utf-8")
        return paths

    def _parts(self, width: int) -> Iterator["Table"]:
        """Yield tables of at most so many characters a line, each with the first columns of text and a few others."""
        from rich.console import Console

        text = len(list(takewhile(lambda right: not right, self._numeric())))
        parts, endless = [list(self.columns[:text])], Console(width=10_000)
        # A column takes its share of a table's width whatever stands beside it, and the frame begins with a line.
        alone = [endless.measure(replace(self, columns=[column]).rich()).maximum - 1 for column in self.columns]
        used = least = 1 + sum(alone[:text])
        for column, wide in zip(self.columns[text:], alone[text:], strict=True):
            if used > least and used + wide > width:
                parts.append(list(self.columns[:text]))
                used = least
            parts[-1].append(column)
            used += wide
        for index, part in enumerate(parts):
            title, caption = self.title * (index == 0), self.caption * (index + 1 == len(parts))
            yield replace(self, columns=part, title=title, caption=caption)

    def _numeric(self) -> list[bool]:
        """Say of each column whether it holds numbers; those stand to the right."""
        values = ([row.get(column.key) for row in self.rows] for column in self.columns)
        return [not any(isinstance(value, str) for value in column) for column in values]

    def _groups(self, marks: Mapping[str, str], escape: Callable[[str], str]) -> Iterator[list[list[str]]]:
        """Yield the cells of each group's rows as text, escaped and marked."""
        for _, group in groupby(self.rows, lambda row: row.get(self.group) if self.group else None):
            rows = list(group)
            columns = []
            for column in self.columns:
                texts = [column.show(row.get(column.key)) for row in rows]
                pairs = zip(texts, _marks(column.better, texts), strict=True)
                columns.append([marks[mark].format(escape(text)) for text, mark in pairs])
            yield [list(cells) for cells in zip(*columns, strict=True)]


def _marks(better: str | None, texts: Sequence[str]) -> list[str]:
    """Say which numbers of a column, as they are shown, are the best and the second best."""
    numbers = {text: float(text) for text in texts if text != DASH} if better else {}
    ranks = sorted(set(numbers.values()), reverse=better == "higher")
    if len(ranks) < 2:
        return [""] * len(texts)
    names = {ranks[0]: "best"}
    if sum(text in numbers for text in texts) > 2:
        names[ranks[1]] = "second"
    return [names.get(numbers[text], "") if text in numbers else "" for text in texts]


def _plain(value: Cell) -> Cell:
    return None if isinstance(value, float) and math.isnan(value) else value
