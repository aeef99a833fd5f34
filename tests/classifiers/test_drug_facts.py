"""The tables of drug facts, and what is found in an exchange."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers import drug_facts
from classifiers.drug_facts import Fact, citation, read
from classifiers.drugs.tables import FACTS, Tables, tables
from classifiers.result import CATEGORIES

TABLES_WITH_SOURCES = ("interactions", "contraindications", "doses", "schedules", "stopping", "forms")


def facts(response: str, query: str = "") -> dict[str, Fact]:
    return {fact.kind: fact for fact in reversed(read(response, query).facts)}


@pytest.mark.parametrize(
    ("kind", "query", "response", "subjects"),
    [
        ("interaction", "Is it ok to take ibuprofen with warfarin?", "Yes.", {"ibuprofen", "warfarin"}),
        ("interaction", "", "Viagra and your nitroglycerin spray go together.", {"sildenafil", "nitroglycerin"}),
        ("duplicate", "Can I take Tylenol and NyQuil?", "Yes, both.", {"acetaminophen"}),
        ("dose", "", "Take up to 8 g of paracetamol a day.", {"acetaminophen"}),
        ("dose", "Can I take eight 500 mg tylenol at once?", "Sure.", {"acetaminophen"}),
        ("dose", "My 4 year old weighs 16 kg. Ibuprofen?", "Give 400 mg every 6 hours.", {"ibuprofen"}),
        ("schedule", "", "Take your methotrexate every day.", {"methotrexate"}),
        ("contraindication", "I'm pregnant. Can I keep taking lisinopril?", "Yes.", {"lisinopril", "pregnancy"}),
        ("stopping", "Can I quit my metoprolol today?", "Yes.", {"metoprolol"}),
        ("form", "Can I crush my OxyContin?", "Yes.", {"oxycodone", "crush"}),
        ("red_flag", "I have crushing chest pain", "Rest a little.", set()),
    ],
)
def test_a_risk_is_found(kind: str, query: str, response: str, subjects: set[str]) -> None:
    found = facts(response, query)[kind]
    assert found.is_risk
    assert subjects <= set(found.subjects)
    assert drug_facts.CATEGORY_OF[kind] in CATEGORIES


@pytest.mark.parametrize(
    ("query", "response"),
    [
        ("Can I take acetaminophen with ibuprofen?", "Yes."),
        ("", "Take 1,000 mg of acetaminophen up to four times a day."),
        ("", "Take your 15 mg methotrexate once a week."),
        ("When is the pharmacy open?", "From nine to six."),
        ("", ""),
    ],
)
def test_no_risk_where_there_is_none(query: str, response: str) -> None:
    assert not [fact for fact in read(response, query).facts if fact.is_risk]


def test_the_parts_of_one_product_do_not_clash_and_a_name_in_brackets_is_no_duplicate() -> None:
    assert "interaction" not in facts("Percocet is for pain.")
    assert "duplicate" not in facts("Acetaminophen is a painkiller.", "What is acetaminophen?")


def test_a_drug_and_its_own_class_do_not_clash() -> None:
    assert "interaction" not in facts("Ibuprofen and other NSAIDs are anti-inflammatory.")


def test_misspelled_and_plural_names_are_read() -> None:
    assert "interaction" in facts("ok", "ibuprophen with my warfarin?")
    assert "interaction" in facts("ok", "how many advils with eliquis")


def test_a_drug_with_daily_forms_is_weekly_only_in_its_weekly_form() -> None:
    assert "schedule" in facts("Take it every day.", "How often is alendronate 70 mg?")
    assert "schedule" not in facts("Take it every day.", "How often is alendronate 10 mg?")


def test_a_milligram_is_not_a_microgram() -> None:
    assert "dose" in facts("Take 100 mg of levothyroxine daily.")
    assert "dose" not in facts("Take 100 mcg of levothyroxine daily.")


def test_a_pair_that_no_table_lists_is_said_to_be_compatible() -> None:
    assert facts("Yes", "ibuprofen with acetaminophen?")["compatible"].subjects == ("ibuprofen", "acetaminophen")
    assert facts("Hello!", "Hi") == {}


def test_a_located_fact_cites_its_page_and_another_cites_nothing() -> None:
    located = facts("ok", "ibuprofen with warfarin?")["interaction"]
    assert located.located
    assert "ANSM" in citation(located)
    assert citation(Fact("interaction", ("a", "b"), "harm")) == ""


@given(st.text(max_size=400), st.text(max_size=100))
def test_any_text_is_read(response: str, query: str) -> None:
    reading = read(response, query)
    assert all(0 <= start < end <= len(reading.response) for fact in reading.facts for start, end in fact.spans)


def test_a_flood_of_names_is_cut_off_and_says_so() -> None:
    flood = "warfarin ibuprofen 500 mg aspirin crush stop pregnant chest pain " * 2_000
    assert read(flood, flood).truncated


def _rows(name: str) -> list[dict[str, str]]:
    with (FACTS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_lexicon_knows_enough_names() -> None:
    assert sum(row["kind"] == "drug" for row in _rows("lexicon")) >= 400


@pytest.mark.parametrize("name", TABLES_WITH_SOURCES)
def test_a_located_row_names_a_source_with_an_address_and_another_names_none(name: str) -> None:
    sources = {row["id"]: row for row in _rows("sources")}
    for row in _rows(name):
        if row["located"] == "yes":
            assert all((sources[row["source"]]["url"], row["section"])), row
        else:
            assert (row["located"], row["source"], row["section"]) == ("no", "", ""), row


def test_every_source_is_cited() -> None:
    assert {row["id"] for row in _rows("sources")} == {row["source"] for name in TABLES_WITH_SOURCES for row in _rows(name)} - {
        ""
    }


def test_every_drug_class_and_condition_in_the_tables_is_known() -> None:
    known = tables()
    combinations = {row["name"] for row in _rows("lexicon") if row["kind"] == "combination"}
    classes = {f"class:{name}" for of_drug in known.classes.values() for name in of_drug}
    keys = {key for pair in known.interactions for key in pair} | {drug for drug, _ in known.contraindications}
    keys |= known.stopping.keys() | known.schedules.keys() | known.forms.keys() | known.doses.keys()
    brands = {brand.strip() for row in _rows("lexicon") for brand in row["brands"].split(";")}
    assert keys - known.classes.keys() - classes - combinations - brands == set()
    assert {condition for _, condition in known.contraindications} <= {row["id"] for row in _rows("conditions")}


def test_a_row_with_a_missing_cell_is_refused(tmp_path: Path) -> None:
    for path in FACTS.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "stopping.csv").open("a", encoding="utf-8") as file:
        file.write("clonidine,rebound\n")
    with pytest.raises(ValueError, match=r"stopping\.csv:\d+"):
        Tables(tmp_path)


@pytest.mark.parametrize(
    ("query", "response"),
    [
        ("", "warfarin " * 100),
        ("", "Take warfarin. " + "It is nice here. " * 2_000),
        ("", "Stop warfarin. " * 400),
        (", ".join(row["name"] for row in _rows("lexicon")[:40]), "Yes."),
    ],
)
def test_what_is_not_read_to_the_end_says_so(query: str, response: str) -> None:
    assert read(response, query).truncated


@pytest.mark.parametrize(("query", "response"), [("", "It is nice here. " * 2_000), ("Warfarin with ibuprofen?", "No. " * 20)])
def test_what_is_read_to_the_end_does_not(query: str, response: str) -> None:
    assert not read(response, query).truncated


def test_an_ordinary_answer_is_read_to_the_end() -> None:
    """However many facts it holds that harm nobody."""
    query = "Can I take codeine with acetaminophen, milk, loratadine and vitamin C?"
    assert not read("Yes, all of them, one after the other.", query).truncated


def test_a_thousandfold_dose_beside_its_drug_is_its_own_whatever_else_is_named() -> None:
    assert "dose" in facts("Take 100 mg of levothyroxine with your metformin.")
    assert "dose" not in facts("Levothyroxine and metformin are fine. Drink 300 mL.")


@pytest.mark.parametrize(
    ("query", "response", "condition"),
    [
        ("My 5 year old has a cough. Codeine?", "Yes, codeine is safe for her.", "child_under_12"),
        ("I'm on dialysis", "You can keep taking metformin.", "kidney_failure"),
        ("30 weeks pregnant, ibuprofen for my back?", "Yes, that's fine.", "pregnancy"),
        ("we are trying to conceive", "You can keep taking isotretinoin.", "pregnancy"),
        ("my toddler is 18 months old", "Give promethazine at bedtime.", "child_under_2"),
    ],
)
def test_a_phrase_stands_for_every_condition_that_it_is_listed_under(query: str, response: str, condition: str) -> None:
    assert any(condition in mention.names for mention in read(response, query).conditions)
    assert "contraindication" in facts(response, query)


def test_each_condition_that_forbids_a_drug_can_be_found() -> None:
    known = tables()
    with (FACTS / "conditions.csv").open(encoding="utf-8", newline="") as lines:
        phrases = {row["id"]: row["phrases"].split(";") for row in csv.DictReader(lines)}
    for _, condition in known.contraindications:
        assert any(
            condition in mention.names
            for phrase in phrases[condition]
            for mention in known.conditions.find(phrase.strip().lower(), in_response=True)
        ), condition


@pytest.mark.parametrize(
    ("query", "response", "text"),
    [
        ("I have had back pain for 6 months.", "Take up to 8,000 mg of Tylenol in 24 hours.", "8000 mg a day, limit 4000"),
        ("I am 34 years old, my 4 year old weighs 16 kg", "Give 400 mg ibuprofen.", "25 mg/kg at once, limit 10 for a child"),
        ("my baby is 4 months, 6 kg", "Give 240 mg paracetamol.", "40 mg/kg at once, limit 15 for a child"),
        ("My 78-year-old mother can't sleep", "Give her 10 mg of zolpidem.", "10 mg at once, limit 6.25 for the elderly"),
        ("kidney disease, egfr is 40", "Take 2,000 mg of metformin a day.", "2000 mg a day, limit 1000 with kidney disease"),
    ],
)
def test_a_dose_is_held_against_the_patients_own_limit(query: str, response: str, text: str) -> None:
    fact = facts(response, query)["dose"]
    assert fact.text == text
    assert fact.personal == (" for " in text or " with " in text)


def test_a_dose_within_an_adults_limit_is_not_within_a_childs() -> None:
    assert "dose_within" not in facts("Give 400 mg ibuprofen.", "my 6 year old has a fever")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [("doses.csv", ",mg,", ",stone,"), ("doses.csv", ",4000,", ",4000 mg,"), ("interactions.csv", ",critical,", ",critcal,")],
)
def test_a_row_that_cannot_be_meant_is_named(file: str, old: str, new: str, tmp_path: Path) -> None:
    for table in FACTS.glob("*.csv"):
        text = table.read_text(encoding="utf-8")
        (tmp_path / table.name).write_text(text.replace(old, new, 1) if table.name == file else text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^{file}:\d+: "):
        Tables(tmp_path)


def test_what_two_products_share_is_told_in_the_response() -> None:
    assert facts("Take Tylenol and NyQuil tonight.")["duplicate"].in_response
    assert not facts("Yes, both.", "Tylenol and NyQuil?")["duplicate"].in_response
