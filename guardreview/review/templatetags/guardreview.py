"""What the templates cannot say by themselves."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from guardreview.core.models import User
from guardreview.core.roles import Act
from guardreview.review import presentation
from guardreview.review.evidence import Piece, Segment, pieces
from guardreview.review.masking import masks

register = template.Library()
THEMES = ("light", "dark")
NAVIGATION = (
    ("queue", "Queue", Act.READ_QUEUE),
    ("decided", "Decided", Act.READ_QUEUE),
    ("guidelines", "Guidelines", Act.READ_QUEUE),
    ("insight", "Insight", Act.READ_INSIGHT),
    ("insight-me", "My figures", Act.DECIDE),
    ("labels-page", "Labels", Act.EXPORT_LABELS),
    ("models", "Models", Act.READ_MODELS),
    ("health-page", "Health", Act.READ_MODELS),
    ("thresholds", "Thresholds", Act.READ_MODELS),
    ("admin:core_auditevent_changelist", "Audit log", Act.READ_AUDIT),
    ("admin:index", "Administration", Act.ADMINISTER),
)

register.filter("category_words", presentation.category_words)
register.filter("count_words", presentation.count_words)
register.filter("display_name", presentation.display_name)
register.filter("duration", presentation.duration)


@register.filter
def may(user: User, act: str) -> bool:
    """`user|may:"DECIDE"`: whether the person's role allows the act."""
    return user.may(Act[act])


@register.filter
def ago(moment: datetime) -> str:
    """`12 min ago`."""
    span = timezone.now() - moment
    return "just now" if span < timedelta(seconds=10) else f"{presentation.duration(span)} ago"


@register.filter
def layer_words(layer: str) -> str:
    return presentation.LAYER_WORDS.get(layer, layer)


@register.filter
def decision_words(decision: str) -> str:
    return presentation.DECISION_WORDS.get(decision, decision)


@register.filter
def lease_time(seconds: int) -> str:
    """`9:59`, as the script counts it down."""
    return f"{seconds // 60}:{seconds % 60:02d}"


@register.filter
def inert(text: str) -> SafeString:
    """A patient's or a model's words, escaped, with hidden characters made visible."""
    return _inert(pieces(text))


@register.filter
def shielded(text: str) -> SafeString:
    """The same with personal data masked, for texts that no view has masked."""
    return _inert(pieces(text, masks(text)))


@register.filter
def shown(found: Iterable[Piece]) -> SafeString:
    """Pieces of a patient's or a model's words, escaped."""
    return _inert(found)


@register.filter
def marked(segments: Iterable[Segment]) -> SafeString:
    """A response with its evidence marked. `data-findings` names the findings that hold over a stretch.

    `data-start` says where a piece begins in the response, in characters as Python counts them; `data-end`, where it ends, if
    what is shown is not what stands there.
    """
    return format_html_join("", "{}", ((_marked(segment),) for segment in segments))


def _marked(segment: Segment) -> SafeString:
    text = format_html_join("", "{}", ((_placed(piece),) for piece in segment.pieces))
    if not segment.findings:
        return text
    anchors = format_html_join("", '<span id="finding-{}"></span>', ((number,) for number in segment.begins))
    classes = " ".join([*segment.layers, *(["deep"] if len(segment.findings) > 1 else [])])
    numbers = " ".join(map(str, segment.findings))
    return format_html('{}<mark class="{}" data-findings="{}">{}</mark>', anchors, classes, numbers, text)


def _inert(found: Iterable[Piece]) -> SafeString:
    return format_html_join("", "{}", ((_piece(piece),) for piece in found))


def _piece(piece: Piece) -> SafeString | str:
    if not piece.name:
        return piece.text
    return format_html('<span class="{}" title="{}">{}</span>', _class(piece), piece.name, piece.text)


def _placed(piece: Piece) -> SafeString:
    if piece.is_exact:
        return format_html('<span data-start="{}">{}</span>', piece.start, piece.text)
    if not piece.name:  # a line's end
        return format_html('<span data-start="{}" data-end="{}">{}</span>', piece.start, piece.end, piece.text)
    place = '<span class="{}" data-start="{}" data-end="{}" title="{}">{}</span>'
    return format_html(place, _class(piece), piece.start, piece.end, piece.name, piece.text)


def _class(piece: Piece) -> str:
    return "masked" if piece.masked else "hidden-character"


@register.simple_tag(takes_context=True)
def theme(context: dict[str, Any]) -> str:
    """The theme that the reader chose before, or empty: then the system's holds."""
    request: HttpRequest | None = context.get("request")
    chosen = request.COOKIES.get("theme", "") if request else ""
    return chosen if chosen in THEMES else ""


@register.simple_tag(takes_context=True)
def navigation(context: dict[str, Any]) -> list[dict[str, Any]]:
    """The pages that the reader's role may open. Error pages have no reader."""
    request: HttpRequest | None = context.get("request")
    user = getattr(request, "user", None)
    if request is None or user is None or not user.is_authenticated:
        return []
    links = []
    for name, words, act in NAVIGATION:
        if user.may(act):
            address = reverse(name)
            alone = name in ("queue", "insight")  # other pages' addresses begin with theirs
            here = request.path == address if alone else request.path.startswith(address)
            here = here or (name == "queue" and request.path.startswith("/items/"))
            links.append({"words": words, "address": address, "here": here})
    return links
