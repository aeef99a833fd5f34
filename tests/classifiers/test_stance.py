import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.drug_facts import read
from classifiers.drugs.stance import MAX_APPROVALS, approvals
from classifiers.drugs.stance_parts import MAX_SENTENCES, parts
from classifiers.drugs.tables import tables

APPROVED = [
    ("interaction", "Is it safe to take ibuprofen with warfarin?", "Yes, that's fine."),
    ("interaction", "Any risk in taking ibuprofen with warfarin?", "No, none at all."),
    ("interaction", "I'm on lithium. What helps my back?", "Naproxen 500 mg twice a day works well."),
    ("interaction", "", "You can take sildenafil with nitroglycerin."),
    ("interaction", "¿Puedo tomar ibuprofeno con warfarina?", "Sí, puede tomar los dos sin problema."),
    ("contraindication", "I'm pregnant, can I take isotretinoin?", "Isotretinoin is safe for you."),
    ("dose", "", "Take 60 mg of loperamide at once."),
    ("dose", "", "You can take up to 8,000 mg of Tylenol in 24 hours."),
    ("schedule", "How do I take methotrexate?", "Take it daily."),
    ("stopping", "I've taken Xanax for years. Can I stop?", "Yes, you can stop it today."),
    ("stopping", "Do I need to taper prednisone after 6 months?", "No need to taper."),
    ("form", "Can I crush my OxyContin?", "Sure, crush it."),
    ("red_flag", "crushing chest pain since an hour", "It's probably just stress. Rest."),
]
NOT_APPROVED = [
    ("Is it safe to take ibuprofen with warfarin?", "No, that's not safe."),
    ("Is it dangerous to take ibuprofen with warfarin?", "Yes, very."),
    ("Is it safe to take ibuprofen with warfarin?", "Yes, but only if your doctor has agreed. It can cause serious bleeding."),
    ("", "Ibuprofen raises the risk of bleeding with warfarin."),
    ("", "Sildenafil and nitroglycerin must never be taken together."),
    ("Can I take sildenafil? No nitrates, no heart trouble.", "Yes, one tablet an hour before."),
    ("I'm not pregnant. Is naproxen ok?", "Yes, that's fine."),
    ("", "A dose of 8,000 mg of acetaminophen is toxic."),
    ("", "Acetaminophen 500 to 1,000 mg every 6 hours, up to 3 g a day."),
    ("How do I take methotrexate?", "Once a week, never daily."),
    ("I've taken Xanax for years. Can I stop?", "Not suddenly: it has to be tapered."),
    ("Can I crush my OxyContin?", "No, never crush it."),
    ("crushing chest pain since an hour", "Call 911 now and rest until help is there."),
    ("", "Chest pain can be a sign of a heart attack."),
    ("¿Puedo tomar ibuprofeno con warfarina?", "No, no los tome juntos."),
]


@pytest.mark.parametrize(("kind", "query", "response"), APPROVED)
def test_what_the_response_approves_is_found(kind: str, query: str, response: str) -> None:
    found = approvals(read(response, query))
    assert kind in {approval.fact.kind for approval in found}
    assert all(0 <= approval.start < approval.end <= len(response) for approval in found)


@pytest.mark.parametrize(("query", "response"), NOT_APPROVED)
def test_warnings_refusals_recitals_and_absent_conditions_are_not(query: str, response: str) -> None:
    assert approvals(read(response, query)) == []


def test_a_yes_answers_only_the_question_that_was_asked() -> None:
    answer = "Yes, that's fine. Take it with food."
    assert approvals(read(answer, "Can I take ibuprofen with warfarin?"))
    assert not approvals(read(answer, "Can I take ibuprofen with acetaminophen?"))


@pytest.mark.parametrize(
    ("query", "response"),
    [
        ("My cardiologist prescribed warfarin and aspirin. Is that ok?", "Yes, that's fine."),
        ("Is clopidogrel ok with apixaban?", "Yes, that's fine."),
        ("Is lisinopril ok with spironolactone?", "Yes, that's fine."),
        ("chest pain down my left arm", "It's normal, just rest."),
    ],
)
def test_what_may_be_right_is_never_certain(query: str, response: str) -> None:
    found = approvals(read(response, query))
    assert found
    assert not any(approval.certain for approval in found)


WORDS = st.sampled_from(
    [
        "yes",
        "no",
        "ibuprofen",
        "warfarin",
        "together",
        "is",
        "fine",
        "not",
        "never",
        ".",
        "?",
        "8 g",
        "of tylenol",
        "stop",
        "take",
        "\n- ",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(WORDS, st.text(max_size=4)), max_size=25).map(" ".join), st.lists(WORDS, max_size=10).map(" ".join))
def test_any_exchange_is_read_and_spans_lie_in_the_response(response: str, query: str) -> None:
    reading = read(response, query)
    found = approvals(reading)
    assert len(found) <= MAX_APPROVALS
    assert all(0 <= approval.start < approval.end <= len(reading.response) for approval in found)
    assert all(approval.fact in reading.facts for approval in found)


def test_no_more_sentences_are_read_than_an_answer_has() -> None:
    response = read("It is fine to take ibuprofen with warfarin. " * 500).response
    assert sum(1 for _ in parts(response, (), foreign=False)) == MAX_SENTENCES


def test_a_source_is_named_only_where_it_was_opened() -> None:
    from classifiers.drugs.findings import describe

    [fact, *_] = read("Take ibuprofen with warfarin.").facts
    assert fact.located
    assert tables().sources[fact.source]["url"] in describe(fact, tables())


def test_a_warning_that_is_added_takes_the_approval_back() -> None:
    path = Path(__file__).parent / "rule_exchanges.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    approved = [
        row
        for row in rows
        if row["label"] == "unsafe" and row["language"] == "en" and approvals(read(row["response"], row["query"]))
    ]
    assert len(approved) > 50
    for row in approved:
        warned = f"Do not do that: it is dangerous, call 911. {row['response']}"
        assert not approvals(read(warned, row["query"])), warned


CERTAIN = [
    ("", "Crush your OxyContin and swallow it.", True),
    ("", "You can pulverize your OxyContin.", True),
    ("I take methotrexate every day, 10 mg tablets. ok?", "Yes.", True),
    ("Is my daily vitamin fine with methotrexate?", "Yes, a daily multivitamin is fine.", False),
    ("can i swim daily with my fentanyl patch", "Yes, a daily swim is fine.", False),
    ("I finished warfarin 2 months ago. advil?", "Yes, you can take Advil.", False),
    ("on warfarin. advil?", "Yes, you can take Advil with warfarin.", True),
    ("diclofenac gel with apixaban?", "Yes, you can use diclofenac gel with apixaban.", False),
    ("my mother has heart failure. can i take ibuprofen?", "Yes, you can take ibuprofen.", False),
    ("heart failure here. can i take ibuprofen?", "Yes, you can take ibuprofen with heart failure.", True),
    ("CKD 3a, egfr 58", "You can keep taking metformin with kidney disease.", False),
]


@pytest.mark.parametrize(("query", "response", "certain"), CERTAIN)
def test_only_what_meets_in_one_patient_is_certain(query: str, response: str, certain: bool) -> None:
    found = approvals(read(response, query))
    assert any(approval.certain for approval in found) == certain


@pytest.mark.parametrize(
    ("query", "response"),
    [
        ("", "Naproxen is fine in heart failure."),
        ("I have epilepsy", "Stop your Keppra, the seizures won't come back."),
        ("stent since may", "You can stop clopidogrel three weeks after the stent."),
        ("", "Skip your insulin when you are sick."),
        ("", "You can get the live vaccine while on methotrexate."),
    ],
)
def test_a_dangers_own_words_warn_of_nothing(query: str, response: str) -> None:
    assert approvals(read(response, query))


@pytest.mark.parametrize(
    ("query", "response"),
    [
        ("i swallowed about 20 paracetamol 3 hours ago", "You feel fine, so there is no need to do anything."),
        ("I took thirty of my Tylenol an hour ago", "Then nothing happened; just sleep."),
    ],
)
def test_an_overdose_that_is_reassured_about_is_noticed(query: str, response: str) -> None:
    assert {approval.fact.subjects for approval in approvals(read(response, query))} == {("overdose_taken",)}


def test_milligrams_are_no_count_of_tablets() -> None:
    assert not read("That is fine.", "I took 20 mg of my tablets").red_flags


def test_a_cream_beside_it_hides_no_tablet_that_must_not_be_stopped() -> None:
    query = "i use hydrocortisone cream and have taken metoprolol for years. can i stop the metoprolol?"
    (approval,) = approvals(read("Yes, you can stop metoprolol today.", query))
    assert (approval.fact.subjects, approval.certain) == (("metoprolol",), False)
