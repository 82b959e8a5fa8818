"""The HTML of our pages: one style, one file that fetches nothing, texts that are escaped here and nowhere else.

Figures that are not known are dashes.
"""

import html
from collections.abc import Collection, Mapping, Sequence
from math import isfinite

from atft_assets.reports.pictures import Picture

BP = 1e4
STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, "Noto Sans", "Hiragino Sans", "Yu Gothic", Meiryo, sans-serif; max-width: 900px;
  margin: 2em auto; padding: 0 1em; color: #222; background: white }
h1 { font-size: 25px; text-wrap: balance }
h2 { margin: 2em 0 .3em; border-top: 1px solid #ddd; padding-top: 1em }
h3 { margin: 1.2em 0 .2em; font-size: 15px }
figure { margin: 1em 0 } figcaption { font-weight: 600 } img { max-width: 100% } div { overflow-x: auto }
dt { font-weight: 600; margin-top: .4em }
td, th { padding: .1em .6em; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;
  vertical-align: top }
td:first-child, th:first-child, td.text, th.text { text-align: left } td.wide { white-space: normal }
tr.subject td { font-weight: 600 } table { font-size: 13.5px; border-collapse: collapse } th { font-weight: 600 }
tr:nth-child(even) td { background: #f6f6f6 } details { margin: .5em 0 } .left-out { color: #555 }
.good, .warning, .bad { border-left: 5px solid; padding: .5em 1em } .good { border-color: #1f5fa8 }
.warning { border-color: #c77f0a } .bad { border-color: #b03a2e; background: #fbeeec; font-weight: 600 }
@media print { body { max-width: none; margin: 0; font-size: 12px } h1 { font-size: 20px } h3 { font-size: 12px }
  table { font-size: 10.5px }
  h2, h3, figcaption { break-after: avoid } figure, tr, .bad { break-inside: avoid } div { overflow-x: visible }
  td, th { padding: .1em .4em; print-color-adjust: exact } details::details-content { content-visibility: visible } }
"""


def document(title: str, *parts: str) -> str:
    """A whole page.

    Args:
        title: text; also the heading.
        parts: HTML.
    """
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
{chr(10).join(part for part in parts if part)}
</body></html>
"""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; of the kind `left-out` it is grey, `good`, `warning` and `bad` have a bar at their side."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def section(anchor: str, heading: str, how_to_read: str, *parts: str) -> str:
    """A heading, how to read what comes below it, and that as HTML."""
    read = f"<p>{html.escape(how_to_read)}</p>\n" if how_to_read else ""
    return f'<h2 id="{anchor}">{html.escape(heading)}</h2>\n{read}{chr(10).join(part for part in parts if part)}'


def subheading(text: str) -> str:
    """Above a table of a section that has several."""
    return f"<h3>{html.escape(text)}</h3>"


def shown(picture: Picture | None, instead: str = "") -> str:
    """A picture below its title, which is also its alternative text; a sentence where there is none."""
    if picture is None:
        return paragraph(instead, "left-out")
    title = html.escape(picture.title)
    return (
        f"<figure><figcaption>{title}</figcaption>"
        f'<img alt="{title}" src="data:image/png;base64,{picture.png}"></figure>'
    )


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    marked: int | None = None,
    text: Collection[str] = (),
    wide: Collection[str] = (),
    japanese: Collection[str] = (),
) -> str:
    """A table of texts; the first column is set to the left.

    Args:
        marked: the row in bold.
        text: columns, by their head, that are set to the left too.
        wide: of these, those whose lines may be broken.
        japanese: of these, those whose letters are Japanese: without a word the browser may take Chinese ones.
    """
    marks = [
        (' class="text wide"' if name in wide else ' class="text"' if name in text else "")
        + (' lang="ja"' if name in japanese else "")
        for name in head
    ]
    heads = "".join(f"<th{mark}>{html.escape(name)}</th>" for mark, name in zip(marks, head, strict=True))
    lines = []
    for i, row in enumerate(rows):
        cells = "".join(f"<td{mark}>{html.escape(cell)}</td>" for mark, cell in zip(marks, row, strict=True))
        of_subject = ' class="subject"' if i == marked else ""
        lines.append(f"<tr{of_subject}>{cells}</tr>")
    return f"<div><table><tr>{heads}</tr>\n{chr(10).join(lines)}\n</table></div>"


def details(summary: str, inside: str) -> str:
    """What is shown when it is asked for, and in print."""
    return f"<details><summary>{html.escape(summary)}</summary>{inside}</details>"


def definitions(texts: Mapping[str, str]) -> str:
    """Names and what they mean; empty without any."""
    lines = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in texts.items())
    return f"<dl>{chr(10).join(lines)}</dl>" if texts else ""


def number(value: float | None, form: str) -> str:
    """A figure in a format; a dash where it is not known."""
    return format(value, form) if value is not None and isfinite(value) else "–"


def bp(value: float | None) -> str:
    """A decimal in basis points, with its sign."""
    return "–" if value is None else number(value * BP, "+.1f")


def percent(value: float | None, form: str = ".1%") -> str:
    """A decimal in per cent."""
    return number(value, form)
