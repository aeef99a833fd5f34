"""The texts on which `tests.bench` times the rules."""

from __future__ import annotations

from itertools import islice

from classifiers.drugs.tables import tables
from classifiers.examples import load_corpus

ORDINARY = 1_000
HOSTILE = 100_000
"""Characters of one text."""


def ordinary(n: int) -> list[str]:
    """What patients are told about drugs: safe English answers of the corpus that name one, end to end."""
    find = tables().drugs.find
    answers = (example.response for example in load_corpus() if example.lang == "en" and not example.unsafe)
    text = " ".join(answer for answer in answers if find(answer.lower(), in_response=True))
    return list(islice((text[at : at + ORDINARY] for at in range(0, len(text) - ORDINARY, ORDINARY)), n))


def hostile() -> dict[str, str]:
    """What costs a scanner most: names, doses, odd spellings, brackets, half-matches, each over and over."""
    names = [row for row in sorted(tables().classes) if not row.startswith("class:")]
    repeated = {
        "names": " and ".join(names[:1500]) + " ",
        "one_name": "warfarin ",
        "doses": "Take two 500 mg tablets of ibuprofen every 4-6 hours, 4,000 mg a day. ",
        "digits": "1234567890 ",
        "decimals": "1.5/2-3,000 to 4 or ",
        "permits": "You can safely take warfarin with ibuprofen. Do not worry, it is not dangerous. ",
        "doubles": "you can double your dose and stop taking your warfarin, ",
        "negations": "not never don't no cannot avoid without ",
        "brackets": "([{<",
        "spaced": "d.o.u.b.l.e y.o.u.r d.0.s.e ",
        "leet": "d0ubl3 y0ur d0s3 0f w4rf4r1n ",
        "stretched": "dooouble yourrr dooose ",
        "broken": "dou ble yo ur do se ",
        "accents": "dou\u0308ble\u200b yo\u0301ur do\u0303se \u0434\u043ese ",
        "cards": "4111 1111 1111 1111 555-01-2345 jane.doe@example.com +1 212 555 0100 ",
        "one_letter": "a",
        "lines": "- 1.\n\n",
    }
    return {name: (text * (HOSTILE // len(text) + 1))[:HOSTILE] for name, text in repeated.items()}
