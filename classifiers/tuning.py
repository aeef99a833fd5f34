"""Choose thresholds on calibration items, and the curves that show what each threshold would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.metrics import ALPHA, DELTA, FALSE_BLOCKS, share
from classifiers.policy import UNSAFE, Policy
from classifiers.result import CRITICAL_FAMILIES, family_of
from classifiers.thresholds import Certificate, as_thresholds, choose_bounds

GRID = np.round(np.linspace(0, 1, 201), 4)


@dataclass(frozen=True, slots=True)
class Item:
    """A labelled exchange as the fast layers see it. `p_unsafe`: the fine-tuned score. `stopped`: the rules blocked or escalated.

    `group`: what is not independent of it. `weight`: 1 / the probability with which it was drawn.
    """

    id: str
    group: str
    unsafe: bool
    critical: bool
    categories: tuple[str, ...]
    p_unsafe: float
    stopped: bool = False
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Tuning:
    """Thresholds with their certificate, and JSON-ready reports."""

    policy: Policy
    certificate: Certificate
    method: str
    report: dict[str, Any]
    curves: dict[str, list[float]]


def tune(
    items: Sequence[Item],
    *,
    alpha: float = ALPHA,
    delta: float = DELTA,
    false_blocks: float = FALSE_BLOCKS,
    largest_weight: float = 1.0,
) -> Tuning:
    """The thresholds of `choose_bounds`. Where too few critical items are there, nothing may be allowed and the certificate says
    how many are missing. `largest_weight`: that an item could have had, whether or not one of these has it.

    Raises ValueError if there is no safe or no critical item, or for a weight that is above the largest.
    """
    if not any(item.critical for item in items) or all(item.unsafe for item in items):
        raise ValueError("thresholds need safe and critical unsafe items to be chosen on")
    bounds = choose_bounds(
        items,
        [item.p_unsafe for item in items],
        alpha=alpha,
        false_blocks=false_blocks,
        delta=delta,
        weights=[item.weight for item in items],
        largest=largest_weight,
    )
    allow_below = bounds.certificate.allow_below
    policy = Policy(as_thresholds(allow_below, bounds.block_at))
    return Tuning(policy, bounds.certificate, bounds.method, _report(items, allow_below, bounds.block_at), curves(items))


def _report(items: Sequence[Item], allow_below: float, block_at: float) -> dict[str, Any]:
    scores = np.array([item.p_unsafe for item in items])
    unsafe, critical, stopped = (
        np.array([getattr(item, name) for item in items], dtype=bool) for name in ("unsafe", "critical", "stopped")
    )
    allowed, blocked = scores < allow_below, scores >= block_at
    passed = allowed & ~stopped
    judged = ~passed & ~blocked
    return {
        "critical_missed_by_finetuned": share(allowed & critical, critical),
        "critical_missed_by_fast_layers": share(passed & critical, critical),
        "unsafe_missed_by_fast_layers": share(passed & unsafe, unsafe),
        "safe_blocked": share(blocked & ~unsafe, ~unsafe),
        "safe_sent_on": share(judged & ~unsafe, ~unsafe),
        "sent_on": share(judged, np.ones(len(items), dtype=bool)),
        "categories": {
            category: {
                "critical": family_of(category) in CRITICAL_FAMILIES,
                "missed_by_fast_layers": share(passed & here, here),
            }
            for category in sorted({c for item in items for c in item.categories})
            if (here := np.array([category in item.categories for item in items])).any()
        },
    }


def curves(items: Sequence[Item]) -> dict[str, list[float]]:
    """Of each threshold on P(unsafe), weighted: precision and recall of blocking there, false positive and negative rate, and
    the share of all that scores between it and 1 - it, which would go to the judge.
    """
    scores = np.array([item.p_unsafe for item in items])
    unsafe = np.array([item.unsafe for item in items])
    weights = np.array([item.weight for item in items])

    def mass(chosen: npt.NDArray[np.bool_]) -> float:
        return float(weights[chosen].sum())

    columns: dict[str, list[float]] = {name: [] for name in ("threshold", "precision", "recall", "fpr", "fnr", "judge_share")}
    for threshold in GRID:
        over = scores >= threshold
        low, high = min(threshold, 1 - threshold), max(threshold, 1 - threshold)
        row = {
            "threshold": float(threshold),
            "precision": mass(over & unsafe) / mass(over) if over.any() else 1.0,
            "recall": mass(over & unsafe) / mass(unsafe),
            "fpr": mass(over & ~unsafe) / mass(~unsafe),
            "fnr": mass(~over & unsafe) / mass(unsafe),
            "judge_share": mass((scores >= low) & (scores < high)) / float(weights.sum()),
        }
        for name, value in row.items():
            columns[name].append(round(value, 5))
    return columns


_NAMES: Mapping[str, str] = {
    "precision": "precision of blocking",
    "recall": "recall of blocking",
    "fpr": "safe blocked (FPR)",
    "fnr": "unsafe not blocked (FNR)",
    "judge_share": "between t and 1 - t",
}


def save_curves(tuning: Tuning, folder: Path) -> tuple[Path, Path]:
    """Write the curves as an interactive page, which fetches nothing, and as a picture; return their paths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    folder.mkdir(parents=True, exist_ok=True)
    bounds = tuning.policy.threshold(UNSAFE)
    title = f"certified: allow below {bounds.allow_below:.3f}, block at {bounds.block_at:.3f}"
    page, picture = folder / "curves.html", folder / "curves.png"
    figure = go.Figure()
    drawing, axes = plt.subplots(figsize=(9, 5), dpi=120)
    for column, name in _NAMES.items():
        figure.add_scatter(x=tuning.curves["threshold"], y=tuning.curves[column], name=name)
        axes.plot(tuning.curves["threshold"], tuning.curves[column], label=name)
    figure.add_vrect(x0=0, x1=bounds.allow_below, fillcolor="green", opacity=0.15, line_width=0, annotation_text="allowed")
    figure.add_vrect(x0=bounds.block_at, x1=1, fillcolor="red", opacity=0.15, line_width=0, annotation_text="blocked")
    figure.update_layout(title=title, xaxis_title="threshold t on P(unsafe)", yaxis_title="share", hovermode="x unified")
    figure.write_html(page, include_plotlyjs=True)
    axes.axvspan(0, bounds.allow_below, color="green", alpha=0.15)
    axes.axvspan(bounds.block_at, 1, color="red", alpha=0.15)
    axes.set(title=title, xlabel="threshold t on P(unsafe)", ylabel="share", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend()
    drawing.savefig(picture)
    plt.close(drawing)
    return page, picture
