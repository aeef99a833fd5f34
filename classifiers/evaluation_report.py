"""The report of `evaluation.evaluate` on many files as one page: static HTML, no script, nothing fetched."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { border: 1px solid #8886; padding: .25rem .6rem; text-align: right; vertical-align: top }
th:first-child, td:first-child, .text td { text-align: left }
mark { padding: 0 .1em }
svg { width: 20rem; height: 20rem; border: 1px solid #8886 }
"""


def as_html(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """`reports`: file name -> what `evaluate` returned."""
    parts = "".join(_file(name, report) for name, report in reports.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Evaluation</title><style>{_STYLE}</style>'
        f"<h1>Evaluation</h1>{parts}</html>\n"
    )


def _file(name: str, report: Mapping[str, Any]) -> str:
    rates = {f"overall: {key}": value for key, value in report["overall"].items()}
    rates["critical false negatives"] = report["critical_false_negatives"]
    rates |= {f"{label} sent on by the fast layers": value for label, value in report["sent_on"].items()}
    rates["routed without the judge"] = report["without_judge"]
    categories = {
        f"{category}: {key}": value
        for category, each in report["categories"].items()
        for key, value in each.items()
        if value["n"] and key in ("recall", "false_negative_rate", "precision")
    }
    return (
        f"<h2>{escape(name)}</h2><p>{report['count']} exchanges</p>"
        + _rates("Rates, with exact 95 % intervals", rates)
        + _rates("By category", categories)
        + _confusion(report["confusion"])
        + _reliability(report["calibration"])
        + _errors(report["errors"])
    )


def _rates(title: str, rates: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        _row(name.replace("_", " "), _share(r["rate"]), f"{_share(r['low'])} to {_share(r['high'])}", f"{r['k']} of {r['n']}")
        for name, r in rates.items()
    ]
    return f"<h3>{title}</h3><table>{_row('what', 'rate', 'interval', 'items', tag='th')}{''.join(rows)}</table>"


def _row(*cells: object, tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> str:
    columns = sorted({said for counts in confusion.values() for said in counts})
    rows = "".join(_row(label, *(counts.get(column) or "" for column in columns)) for label, counts in confusion.items())
    head = _row("label", *columns, tag="th")
    return f"<h3>Labelled (rows), and what the cascade said (columns)</h3><table>{head}{rows}</table>"


def _reliability(calibration: Mapping[str, Any]) -> str:
    if calibration["ece"] is None:
        return ""
    points = "".join(
        f'<circle cx="{100 * each["mean"]:.1f}" cy="{100 - 100 * each["unsafe"]:.1f}" r="{1 + min(4, each["n"] ** 0.5 / 5):.1f}" '
        f'fill="currentColor"><title>{each["n"]} responses: said {each["mean"]:.2f}, were {each["unsafe"]:.2f}</title></circle>'
        for each in calibration["bins"]
    )
    return (
        f"<h3>Reliability of P(unsafe)</h3><p>Expected calibration error {calibration['ece']:.3f}. Across: what was said. "
        f'Up: the share that is unsafe.</p><svg viewBox="-4 -4 108 108" role="img" aria-label="Reliability diagram">'
        f'<line x1="0" y1="100" x2="100" y2="0" stroke="#888" stroke-dasharray="2"/>{points}</svg>'
    )


def _errors(errors: list[Mapping[str, Any]]) -> str:
    if not errors:
        return "<h3>Errors</h3><p>No unsafe response was allowed and no safe one blocked.</p>"
    rows = "".join(_error(each) for each in errors)
    return (
        f'<h3>The worst errors</h3><table class="text">{_row("id", "label", "said", "query", "response", tag="th")}{rows}</table>'
    )


def _error(error: Mapping[str, Any]) -> str:
    said = f"{error['decision']} by {error['layer']}: {error['reason']}"
    cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in (error["id"], _label(error), said, error["query"]))
    return f"<tr>{cells}<td>{_marked(error)}</td></tr>"


def _label(error: Mapping[str, Any]) -> str:
    label = error["label"] if isinstance(error["label"], str) else ", ".join(error["label"])
    return f"{label} {error['severity']}".strip()


def _marked(error: Mapping[str, Any]) -> str:
    """The response with its evidence marked; spans may overlap, and the later of two is left out."""
    text, parts, done = error["response"], [], 0
    for each in sorted(error["evidence"], key=lambda span: span["start"]):
        start, end = each["start"], min(each["end"], len(text))
        if done <= start < end:
            parts += [escape(text[done:start]), f'<mark title="{escape(each["rule"])}">{escape(text[start:end])}</mark>']
            done = end
    return "".join([*parts, escape(text[done:])])
