"""Open items by what stands in their exchange: the words of its texts, and the app that it came from.

Every word must stand in the question or the answer. On PostgreSQL a word matches from its beginning ("parac" finds
"paracetamol"), by a GIN index of the words of decided exchanges (`exchange_words`). It needs no extension, so no superuser, and
unlike one of trigrams it serves words of one or two characters. On SQLite a word matches anywhere in a text, by a look at each.

An index of exchanges knows nothing of what is open, and the planner cannot tell how many will match. Left to itself, for a rare
word it reads the words of every open item: six seconds at 100,000. So the `NEAREST` open items are looked at first; they fill
a page if the word, or the app, is common. If they do not, it is rare, and the index finds all that there is of it at once.
"""

from __future__ import annotations

import re

from django.db import connection
from django.db.models import BooleanField, F, Func, Q, QuerySet, Subquery, TextField, Value

from guardreview.review.masking import masks
from guardreview.verdicts.models import Exchange, ReviewItem

NEAREST = 100
MARKS = (
    "./:@-+_#&?=~<>;\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u2022\u00b7\u00ab\u00bb\u00b0\u00d7\u2264\u2265\u2192\u00a0\u202f"
)
"""What PostgreSQL would take for a part of a word, an address or a number. The index has blanks in their place."""
CHARACTERS = 100_000
"""Of each text, as many are indexed: what PostgreSQL's lists of words can hold."""
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The words to look for: letters and digits alone, so that nothing in them means anything to a database."""
    return _WORD.findall(text)


def first_of(items: QuerySet[ReviewItem], *, text: str, app: str, count: int) -> list[ReviewItem]:
    """The first `count` of `items`, which are in order, that hold every word of `text` and come from `app`, where given."""
    words = words_of(text)
    if not words and not app:
        return list(items[:count])
    indexed = connection.vendor == "postgresql"
    found = items.filter(_condition("exchange__", words, app, indexed))
    if not indexed:
        return list(found[:count])
    nearest = list(found.filter(pk__in=items.values("pk")[:NEAREST])[:count])
    if len(nearest) == count:
        return nearest
    exchanges = Exchange.objects.filter(_condition("", words, app, indexed), status=Exchange.Status.DECIDED).values("pk")
    # An array is made once and before anything else: the planner cannot mix its making with the rest.
    is_one = Func(
        F("exchange_id"), Subquery(exchanges), template="%(expressions)s)", arg_joiner=" = ANY(ARRAY", output_field=BooleanField()
    )
    return list(items.filter(is_one)[:count])


def seen_in(items: list[ReviewItem], *, text: str) -> list[ReviewItem]:
    """Those of `items` in which every word of `text` stands in plain sight: what is masked must not be guessed by searching."""
    words = [word.casefold() for word in words_of(text)]
    if not words:
        return items
    texts = Exchange.objects.filter(pk__in=[item.exchange_id for item in items]).values_list("pk", "query", "response")
    plain = {pk: f"{_in_sight(query)}\n{_in_sight(response)}" for pk, query, response in texts}
    return [item for item in items if all(word in plain[item.exchange_id] for word in words)]


def _in_sight(text: str) -> str:
    hidden = masks(text)
    starts = [0, *(mask.end for mask in hidden)]
    ends = [*(mask.start for mask in hidden), len(text)]
    return "\n".join(text[start:end] for start, end in zip(starts, ends, strict=True)).casefold()


def _condition(prefix: str, words: list[str], app: str, indexed: bool) -> Q:
    """`prefix`: the way to an exchange. `indexed`: by the index of words."""
    condition = Q(**{f"{prefix}app__name": app}) if app else Q()
    if indexed and words:
        return condition & Q(_has_words(f"{prefix}query", f"{prefix}response", words))
    for word in words:
        condition &= Q(**{f"{prefix}query__icontains": word}) | Q(**{f"{prefix}response__icontains": word})
    return condition


def _has_words(query: str, response: str, words: list[str]) -> Func:
    """As the index has it: to be recognized, it may hold no parameter but the words."""
    texts = [
        Func(F(field), template=f"left(%(expressions)s, {CHARACTERS})", output_field=TextField()) for field in (query, response)
    ]
    blanks = " " * len(MARKS)
    stored = Func(
        *texts, template=f"to_tsvector('simple', translate(%(expressions)s, '{MARKS}', '{blanks}'))", arg_joiner=" || ' ' || "
    )
    wanted = Func(Value(" & ".join(f"'{word}':*" for word in words)), template="to_tsquery('simple', %(expressions)s)")
    return Func(stored, wanted, template="%(expressions)s", arg_joiner=" @@ ", output_field=BooleanField())
