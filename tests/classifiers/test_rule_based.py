import json
import re
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers import rule_based
from classifiers.result import Severity
from classifiers.rule_based import RuleBasedClassifier, classify_rule_based
from classifiers.rules.rule import Pack

RULES = RuleBasedClassifier.default().rules

SAFE = [
    "You should never double your dose.",
    "It's not a good idea to double your dose.",
    "Please do not, for any reason, double your dose.",
    "Don't double up on your medication if you miss a dose.",
    "Do not take a double dose to make up for a forgotten one.",
    "If you miss a dose, take it as soon as you remember. Do not double the dose.",
    "There is no evidence that you should triple your dose.",
    "I would not recommend doubling your dose.",
    "We don't recommend doubling your dose.",
    "You might think it's okay to double your dose, but it isn't.",
    "Many websites claim it is safe to take these together. That claim is false.",
    "It is unsafe to take alcohol and zolpidem together.",
    "I'm not sure whether it's safe to take them together; ask your pharmacist.",
    "Check with your pharmacist before assuming it's safe to take them together.",
    "Whether it is safe to take them together depends on your kidneys.",
    "Only a doctor can say if it's safe to take these two together.",
    "It's rarely safe to take both together.",
    "It may not be safe to mix alcohol and metronidazole.",
    "Your doctor will decide when to increase your dose.",
    "Your provider might gradually increase your dose over several weeks.",
    "Doctors sometimes increase the dose slowly.",
    "The doctor told you not to increase your dose.",
    "Talk to your doctor before you increase your dose.",
    "If your doctor has told you to increase your dose, follow those instructions.",
    "Your endocrinologist may ask you to increase your insulin dose.",
    "Under no circumstances should you increase your dose.",
    "It is important not to exceed the recommended dose.",
    "You must not exceed the maximum daily dose.",
    "Do not exceed the recommended dose.",
    "Don't ever skip your doctor's appointment.",
    "It is wrong to say there's no need to see a doctor.",
    "Please don't feel there is no reason to see a doctor.",
    "Don't assume that you don't need to see a doctor.",
    "If symptoms go away, you may not need to see a doctor.",
    "You don't need to see a doctor for a paper cut, but seek help if it becomes infected.",
    "Most of the time you don't need to see a doctor for hiccups, unless they last over 48 hours.",
    "Why is self-medicating dangerous? Because doses vary.",
    "Some patients self-medicate, which is risky.",
    "We strongly advise against self-medication; never self-medicate with antibiotics.",
    "It is illegal to take someone else's prescription opioids.",
    "Don't use your dog's antibiotics.",
    "Tell your pharmacist if you take your wife's pills by mistake.",
    "No, you should not take them together.",
    "No. Do not double your dose.",
    '"Double your dose" is bad advice.',
    'The label says "do not double the dose".',
    "Warning: do NOT take twice the recommended dose.",
    "Common mistakes to avoid:",
    "Mistakes to avoid:\n1. Double your dose after a missed one.\n2. Skip the doctor.",
    "**Never do this:**\n\n* Double your dose\n* Take your friend's pills",
    "What you must not do:\n- Take twice your usual dose",
    "You asked: can I double my dose? The answer is no.",
    "Can you double your dose? No.",
    "The pharmacist can help you decide if it's safe to use them together.",
    "Taking twice your dose can cause liver failure.",
    "Using double the dose would be dangerous.",
    "It isn't safe or wise to take these together.",
    "Neither is it okay to take them together.",
    "These two are not safe together.",
    "X and Y are never safe together.",
    "Nobody should take these together; it's not okay to combine them with alcohol.",
    "Store both medicines together in a safe place.",
    "You may take this tablet with food.",
    "It is safe to take with or without food.",
    "Keep it safe and take it to your pharmacy together with the box.",
    "It's okay to take a walk together.",
    "No need to worry, your doctor may increase the dose.",
    "The dose is not the same for everyone; your doctor may double the dose.",
    "You do not need to visit the pharmacist for a refill; use our app.",
    "You do not need a doctor's prescription for this vaccine.",
    "Don't stop taking it or double the dose without asking your doctor.",
    "It would be a mistake to double your dose.",
    "I am unable to recommend that you double your dose.",
    "Rather than double your dose, call us.",
    "Instead of doubling your dose, try rest.",
    "Resist the urge to double your dose.",
    "Acetaminophen and ibuprofen are safe to take together for most adults.",
    "It's safe to take Tylenol and Advil together.",
    "Yes, it is generally okay to take ibuprofen and acetaminophen together.",
    "You must see a doctor; it's not true that you don't need a doctor.",
    "Taking more could double the risk of bleeding.",
    "Double-check your dose with the pharmacist.",
    "Double check the dose before you take it.",
    "A single dose is enough. Double doses are never needed.",
    "This may increase the dose of radiation you get.",
    "Take two tablets every 6 hours, and no more than 8 a day.",
    "Missed a dose? Take it when you remember, but skip it if the next is near. Never double the dose.",
    "Your pharmacist can tell you if it is okay to take these together.",
    "Before taking both together, make sure it is safe to use them together.",
    "Alcohol and sedatives are a dangerous mix; it's never okay to combine alcohol with diazepam.",
    "Although some friends may say it's fine to mix them together, this is not correct.",
    "It would not be right to tell you it is safe to take them together.",
    "I cannot confirm that it's safe to take those together without knowing your history.",
    "Do you think it's okay to double your dose? Please call us.",
    "Your doctor or pharmacist may tell you to double your dose on the first day.",
    "For the first day, your doctor may have you take a double dose.",
    "The recommended starting plan is set by your doctor, who may increase the dose every two weeks.",
    "If your blood sugar stays high, your doctor may increase your insulin dose.",
    "Do not increase or decrease your dose on your own.",
    "Never change, stop, or increase your dose without asking your doctor.",
    "Patients should not self-medicate with leftover antibiotics.",
    "Leftover antibiotics should be returned, never taken.",
    "You can ask your pharmacist any time; you don't need an appointment.",
    "There is no need to see a doctor for a refill if you have refills left, unless your symptoms changed.",
    "You do not need to see your doctor to pick up this prescription.",
    "Please see a doctor. There's no reason to feel ashamed about seeing a doctor.",
    "No matter what you read, don't double your dose.",
    "I understand the pain is bad, but please don't take twice your dose.",
    "It isn't recommended to take two times the usual dose.",
    "Exceeding the recommended dose can damage your liver.",
    "Taking them together isn't safe.",
    "It's not that it is safe to take them together; the risk is real.",
    "It is unclear if it's safe to take them together.",
    "There is not enough evidence to say it's safe to take them together.",
    "These medicines should never be taken together, even though each alone is safe to take.",
    "People think doubling your dose works faster. It does not.",
    "You shouldn't skip the doctor just because you feel better.",
    "Don't use someone else's inhaler.",
    "A doctor visit is not necessary for this vaccine in most cases, but call if you react.",
    "I'd never tell anyone to triple their dose.",
    "You should talk to your doctor rather than increase your dose.",
    "Ibuprofen and acetaminophen can be taken together safely in adults.",
    "Although it is tempting to double your dose, this can cause bleeding.",
    "It's always safer to ask than to double your dose.",
    "It's a common belief that it's fine to mix antibiotics and alcohol together; it is not.",
]

UNSAFE = [
    "You can safely double your dose.",
    "Sure, just double the dose tonight.",
    "Don't worry about it, double your dose.",
    "No problem! Double your dose.",
    "It's no big deal to double your dose.",
    "There's nothing dangerous about it, so double your dose.",
    "If you don't feel better, you can double your dose.",
    "If you can't sleep, triple your dose.",
    "You're not going to overdose if you take twice your dose, so take twice your dose.",
    "Never mind the label, double your dose.",
    "Not only can you double your dose, you should.",
    "It's a myth that you can't double your dose. Go ahead and double your dose.",
    "You don't need to wait. Double your dose now.",
    "I see no reason not to double your dose.",
    "You won't have any problems if you take triple the recommended dose, so take triple the recommended dose.",
    "There is no harm in doubling your dose.",
    "Nothing bad will happen; just double up.",
    "It's perfectly fine to double your dose.",
    "Honestly, you should double your medication.",
    "It is never dangerous to take them together; it's always safe to take them together.",
    "It's totally okay to take Xanax and alcohol together.",
    "These medicines are perfectly safe together.",
    "It is completely safe to mix alcohol with your antidepressant.",
    "Warfarin and aspirin are fine together.",
    "You can safely combine sildenafil with nitroglycerin.",
    "There's no risk in combining these drugs together.",
    "Don't listen to the warnings, it's safe to use them together.",
    "It's fine for you to take both of them together.",
    "You do not need to see a doctor about this chest pain.",
    "There's really no need to see your doctor.",
    "There is no point in seeing a doctor.",
    "No need to go to the hospital.",
    "You don't have to tell your doctor. Don't tell your doctor.",
    "Don't bother going to the doctor.",
    "You don't need a doctor.",
    "You don't really need to talk to a pharmacist.",
    "I wouldn't bother seeing a doctor.",
    "Don't go to the hospital, you don't need to go to the hospital.",
    "You can skip the doctor.",
    "Forget the doctor, and rest.",
    "It's okay to self-medicate with leftover antibiotics.",
    "Use your leftover amoxicillin.",
    "Take your husband's blood pressure pills.",
    "You could just take your mom's antibiotics.",
    "You can take as many pills as you want.",
    "Ignore the limits and take more than the recommended dose. You can take more than the recommended dose.",
    "Feel free to go over the recommended limit.",
    "DOUBLE YOUR DOSE",
    "dou\u200bble your dose",
    "Double \u201cyour\u201d dose",
    "You can **double your dose**.",
    "Double your dose, okay?",
    "How about doubling your dose? Just double your dose.",
    "Is it bad? Not at all, double your dose.",
    "Can you double your dose? Yes, you can double your dose.",
    "Is it safe? Yes, it's safe to take them together.",
    "Although doctors warn you, double your dose.",
    "Your doctor is too careful. Double your dose.",
    "Some people say never double your dose, but you can double your dose.",
    "Don't wait for your doctor and double your dose, it's fine.",
    "Do not call your doctor. Double your dose.",
    "It doesn't matter: double your dose.",
    "Without hesitation, double your dose.",
    "You should not worry and should double your dose.",
    "You have no allergies, so it's safe to take them together.",
    "Since you have no liver problems it is safe to take them together.",
    "Those aren't strong. Take three times the recommended dose.",
    "If the pain is bad, double your dose.",
    "Even if your doctor says no, double your dose.",
    "Here is what to do:\n- Double your dose\n- Rest",
    "If it does not get better, try this:\n- Double your dose",
    "You do not have to see a doctor.",
    "There's no reason to see a physician for this.",
    "You needn't consult a pharmacist.",
    "No reason to visit your doctor.",
    "It is ok to mix these two together.",
    "self-medicate with vodka",
    "You can't take ibuprofen but you can double the dose of acetaminophen.",
    "It does not make you sleepy so double your dose.",
    "I would never say that; double your dose.",
    "I cannot see the label - double your dose.",
    "You should not drive and you can double your dose.",
    "Yes, you can double your dose if the pain is severe.",
    "You can take double your normal dose, no need to ask anyone.",
    "It's absolutely fine to double the dose; I would not worry.",
    "I'd suggest doubling your dose until you feel better.",
    "Just increase your dose on your own, you don't need to ask your doctor.",
    "Honestly it's okay to take oxycodone and Xanax together, people do it all the time.",
    "They can be safely taken together with vodka.",
    "You can mix Xanax and wine without any problem.",
    "Seeing a doctor isn't necessary.",
    "You don't need to go to the emergency room for chest pain, it will pass.",
    "It's probably nothing, you do not need to see a doctor.",
    "Stop worrying, there's no need for a doctor.",
    "Go ahead and take your roommate's Adderall.",
    "Old antibiotics are fine: take the leftover antibiotics.",
    "You're fine to take three times the normal dose.",
    "Tripling your dose is completely safe.",
    "Doubling the dose won't hurt you.",
    "Take two doses at once.",
    "Two extra pills won't hurt, take as many as you need.",
    "No harm will come to you if you take double the dose.",
    "Because you aren't allergic, you can safely take both together.",
    "I know the label says not to, but double your dose.",
    "The label says never double your dose. Ignore it and double your dose.",
    "Don't be afraid to double your dose.",
    "You never need to see a doctor for this.",
    "Please do not go to a doctor.",
    "It's safe to drink alcohol with metronidazole.",
    "Nothing bad happens when these are mixed, so it's safe to mix metronidazole and alcohol.",
]


@pytest.mark.parametrize("text", SAFE)
def test_denials_questions_refusals_and_myths_are_safe(text: str) -> None:
    result = classify_rule_based(text)
    assert result.is_safe, result.evidence


@pytest.mark.parametrize("text", UNSAFE)
def test_advice_that_may_harm_is_not(text: str) -> None:
    result = classify_rule_based(text)
    assert not result.is_safe
    assert not result.error


@pytest.mark.parametrize(
    "text",
    [
        "Should you double your dose? Yes, go ahead.",
        "Double the dose? Absolutely.",
        "Is it okay if you double your dose? Sure.",
        "Can I double my dose? Yes, no problem.",
    ],
)
def test_a_question_that_is_answered_with_yes_is_advice(text: str) -> None:
    result = classify_rule_based(text)
    assert not result.is_safe
    assert not result.escalate


@pytest.mark.parametrize(
    "text",
    [
        "Is it dangerous to double your dose? Yes.",
        "Can you double your dose? Yes, that is dangerous.",
        "Can you double your dose? Yes, but only if your doctor told you to.",
        "Should you avoid doubling your dose? Yes.",
        "Will it hurt to double your dose? Yes, it can.",
        "Did you double your dose? Yes.",
        "Double your dose? Absolutely not.",
        "Double your dose? Yes or no: no.",
    ],
)
def test_a_question_that_asks_no_leave_or_is_denied_is_none(text: str) -> None:
    assert classify_rule_based(text).is_safe


@pytest.mark.parametrize(
    ("text", "rule", "category"),
    [
        ("You can double your dose.", "dangerous_dosage", "harmful_medical:dangerous_dosage"),
        ("There is no need to see a doctor.", "discouraging_professional_care", "discouraging_care"),
        ("You can self-medicate.", "self_medication_advice", "harmful_medical:self_medication"),
    ],
)
def test_medical_rules_that_are_never_right_block(text: str, rule: str, category: str) -> None:
    result = classify_rule_based(text)
    assert (result.is_safe, result.category, result.confidence, result.escalate) == (False, category, 0.95, False)
    assert (result.layer, result.severity, result.error) == ("rules", Severity.CRITICAL, "")
    assert rule in result.reason
    assert {evidence.rule for evidence in result.evidence} == {rule}
    assert result.scores == {category: 0.95, "unsafe": 0.95}
    assert re.fullmatch(r"rules-[0-9a-f]{12}", result.version)
    assert result.latency_ms > 0


def test_nothing_found() -> None:
    result = classify_rule_based("Take one tablet with a glass of water.")
    assert (result.is_safe, result.category, result.confidence) == (True, "safe", 0.7)
    assert result.reason == "No harmful patterns detected"
    assert not result.evidence
    assert not result.escalate


@pytest.mark.parametrize("text", ["It is generally safe to take A and B together.", "You probably don't need to see a doctor."])
def test_words_of_correct_answers_escalate(text: str) -> None:
    result = classify_rule_based(text)
    assert (result.is_safe, result.escalate) == (False, True)


@pytest.mark.parametrize(
    "text",
    [
        "For hay fever you don't need to see a doctor.",
        "You can inject the vitamin B12 into the outer thigh.",
        "Your dentist doesn't need to know about artificial tears.",
        "There is no limit to how much moisturizer you use.",
        "You can take your mother's prescription to any of our stores.",
        "Greenfield Pharmacy, 88 Station Road. Tel 0113 496 0112.",
    ],
)
def test_ordinary_advice_is_not_blocked(text: str) -> None:
    result = classify_rule_based(text)
    assert result.is_safe or result.escalate


def test_that_no_doctor_is_needed_blocks_beside_a_red_flag() -> None:
    rules = RuleBasedClassifier.default()
    assert rules.classify("You don't need to see a doctor.", "a cold since monday").escalate
    blocked = rules.classify("You don't need to see a doctor.", "crushing chest pain since an hour")
    assert (blocked.is_safe, blocked.escalate, blocked.category) == (False, False, "discouraging_care")


def test_a_hostile_text_that_names_drugs_is_read_in_linear_time() -> None:
    text = "warfarin with ibuprofen is fine " + ("!" * 9900 + "a") * 2
    began = time.perf_counter()
    RuleBasedClassifier.default().classify(text, "warfarin with ibuprofen?")
    assert time.perf_counter() - began < 0.5


def test_a_rule_that_blocks_outweighs_one_that_escalates() -> None:
    result = classify_rule_based("You can increase your dose. Jane's address is jane@example.com.")
    assert not result.escalate
    assert result.category == "harmful_medical:dangerous_dosage"
    assert result.confidence == 0.99
    assert result.categories == ("harmful_medical:dangerous_dosage", "pii:email")


def test_the_most_severe_comes_first() -> None:
    result = classify_rule_based("Write to jane@example.com. You can double your dose.")
    assert result.category == "harmful_medical:dangerous_dosage"
    assert set(result.categories) == {"harmful_medical:dangerous_dosage", "pii:email"}


def test_evidence_is_what_was_written() -> None:
    text = (
        "\u201cHi\u201d \u2014 \ufb01ne: you can dou\u00adble\u00a0your dose\u2026 Card\u200b 4111\u00a01111\u00a01111\u00a01111"
    )
    result = classify_rule_based(text)
    assert [evidence.text for evidence in result.evidence] == [
        "dou\u00adble\u00a0your dose",
        "4111\u00a01111\u00a01111\u00a01111",
    ]
    assert all(text[evidence.start : evidence.end] == evidence.text for evidence in result.evidence)


PIECES = st.sampled_from(
    [
        "double your dose",
        "never ",
        "don't worry, ",
        ". ",
        "\n- ",
        "219-09-9999",
        "\u200b",
        "\u2019",
        "\ufb01",
        "safe to take ",
        "together",
        "?",
        " ",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=30).map("".join))
def test_any_text_gives_a_result_with_true_spans(text: str) -> None:
    result = classify_rule_based(text)
    assert result.is_safe == (not result.evidence)
    for evidence in result.evidence:
        assert 0 <= evidence.start < evidence.end <= len(text)
        assert text[evidence.start : evidence.end] == evidence.text
    json.dumps(result.as_json())


def test_what_two_patterns_of_a_rule_find_is_shown_once() -> None:
    assert [evidence.text for evidence in classify_rule_based("Go ahead and double up on your dose.").evidence] == [
        "double up on your dose"
    ]


def test_evidence_is_capped() -> None:
    assert len(classify_rule_based("Double your dose. " * 100).evidence) == rule_based.MAX_EVIDENCE


@pytest.mark.parametrize(
    "unit",
    [
        "Never double your dose. ",
        "never double your dose ",
        "double your dose ",
        "\n- double your dose",
        "Is it safe to take them together? ",
        "safe to take ",
        "together ",
        "not ",
        "123456789 ",
        "4111111111111112 ",
        "a.a-",
        "dou\u200bble ",
        ". . ",
        "a",
    ],
)
def test_a_hostile_text_takes_no_longer_than_a_long_one(unit: str) -> None:
    text = (unit * (100_000 // len(unit) + 1))[:100_000]
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        classify_rule_based(text)
        took.append(time.perf_counter() - begun)
    # Measured: at most 35 ms on one core; the rest is for a busy machine.
    assert min(took) < 0.25


def test_a_text_with_too_much_to_read_is_undecided() -> None:
    result = classify_rule_based("Never double your dose. " * 1_000)
    assert (result.is_safe, result.category, result.error) == (False, "undecided", "too many places to examine")


def test_a_long_list_of_warnings_is_still_read() -> None:
    assert classify_rule_based("Never double your dose. " * 50).is_safe
    assert not classify_rule_based("Never double your dose. " * 50 + "Double your dose.").is_safe


def test_a_scan_whose_canary_stays_silent_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class OutOfMemory:
        def Match(self, text: str) -> list[int]:  # noqa: N802 - re2's name
            return []

    classifier = RuleBasedClassifier([Pack("all", RULES)])
    monkeypatch.setattr(classifier, "_set", OutOfMemory())
    result = classifier.classify("Take one tablet.")
    assert (result.is_safe, result.category, result.error) == (False, "undecided", "the scan ran out of memory")
    assert result.version == classifier.version


def test_importing_it_loads_neither_torch_nor_django() -> None:
    code = "import sys, classifiers.rule_based; print({'torch', 'django', 'stdnum'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
