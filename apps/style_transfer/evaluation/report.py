"""An evaluation as files: JSON, CSV, and one self-contained page with the pictures side by side."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from apps.style_transfer.evaluation.evaluate import FIGURES, Row, summary
from apps.style_transfer.files.images import read_image, resize, to_pil
from apps.style_transfer.files.writing import write_whole

_THUMBNAIL = 320

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Style transfer: evaluation</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }}
th, td {{ padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }}
th:first-child, td:first-child {{ text-align: left }}
th {{ position: sticky; top: 0; background: #f6f6f6 }}
#rows th {{ cursor: pointer }}
th[aria-sort=ascending]::after {{ content: " \\25b2" }} th[aria-sort=descending]::after {{ content: " \\25bc" }}
td small {{ color: #777 }}
.pair {{ display: flex; gap: .5rem; overflow-x: auto; margin: 0 0 1.5rem }}
figure {{ margin: 0 }} figcaption {{ font-size: 13px }} img {{ display: block; height: 220px }}
</style>
<h1>Style transfer: evaluation</h1>
<p>{count} results. Medians, quartiles in small print; times in seconds, one warm call.</p>
<table><thead><tr>{heads}</tr></thead><tbody>{medians}</tbody></table>
<h2>Every result</h2><p>Click a heading to sort.</p>
<table id="rows"><thead><tr>{row_heads}</tr></thead><tbody>{rows}</tbody></table>
<h2>Pictures</h2>{pictures}
<script>
for (const [column, head] of document.querySelectorAll("#rows th").entries()) head.onclick = () => {{
  const body = document.querySelector("#rows tbody"), down = head.ariaSort === "ascending";
  const value = row => {{
    const v = row.cells[column].dataset.value; return v === "" ? Infinity : isNaN(v) ? v : Number(v);
  }};
  const order = (a, b) => {{ const x = value(a), y = value(b); return x < y ? -1 : x > y ? 1 : 0; }};
  const sorted = [...body.rows].sort((a, b) => down ? order(b, a) : order(a, b));
  document.querySelectorAll("#rows th").forEach(other => other.removeAttribute("aria-sort"));
  head.ariaSort = down ? "descending" : "ascending";
  body.append(...sorted);
}};
</script></html>
"""


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """Write ``{"summary": .., "rows": ..}``, see :func:`~apps.style_transfer.evaluation.evaluate.summary`."""
    write_whole(path, json.dumps({"summary": summary(rows), "rows": list(rows)}, indent=1) + "\n")


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write a line for each row."""
    names = ("method", "content", "style", "picture", *FIGURES)
    out = io.StringIO()
    writer = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, out.getvalue())


def write_html(path: Path, rows: Sequence[Row], work: Path) -> None:
    """Write the page: medians, all rows, sortable, and the pictures from the folder ``work``, all in the one file."""
    table = summary(rows)
    figures = [f for f in FIGURES if any(f in found for found in table.values())]
    medians = "".join(
        f"<tr><td>{html.escape(method)}</td>" + "".join(_summary_cell(found.get(f)) for f in figures) + "</tr>"
        for method, found in table.items()
    )
    names = ("method", "content", "style")
    body = "".join(
        "<tr>"
        + "".join(_cell(Path(str(row[n])).name if n != "method" else row[n]) for n in names)
        + "".join(_cell(row[f]) for f in figures)
        + "</tr>"
        for row in rows
    )
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["content"], row["style"]), []).append(row)
    page = _PAGE.format(
        count=len(rows),
        heads=_heads(["method", *figures]),
        medians=medians,
        row_heads=_heads([*names, *figures]),
        rows=body,
        pictures="".join(_pictures(pair, found, work) for pair, found in pairs.items()),
    )
    write_whole(path, page)


def _heads(names: Sequence[str]) -> str:
    return "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)


def _summary_cell(found: dict[str, float] | None) -> str:
    if found is None:
        return "<td></td>"
    return f"<td>{found['median']:.4g} <small>{found['low']:.3g} to {found['high']:.3g}</small></td>"


def _cell(value: object) -> str:
    shown = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return f'<td data-value="{html.escape("" if value is None else str(value))}">{html.escape(shown)}</td>'


def _pictures(pair: tuple[str, str], rows: Sequence[Row], work: Path) -> str:
    shown = [("content", Path(pair[0])), ("style", Path(pair[1]))]
    shown += [(row["method"], work / row["picture"]) for row in rows]
    figures = "".join(
        f'<figure><img alt="{html.escape(name)}" src="{_embedded(path)}"><figcaption>{html.escape(name)}</figcaption>'
        "</figure>"
        for name, path in shown
    )
    return f'<div class="pair">{figures}</div>'


def _embedded(path: Path) -> str:
    image = read_image(path).rgb
    if max(image.shape[-2:]) > _THUMBNAIL:
        image = resize(image, _THUMBNAIL)
    out = io.BytesIO()
    picture: Image.Image = to_pil(image)
    picture.save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
