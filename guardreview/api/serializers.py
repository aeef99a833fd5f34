"""What the API takes, and the form of what it gives. A test holds the answers to the published schema."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from classifiers.result import Decision, Layer, Severity
from guardreview.api.fields import MetadataField, PatientTextField, StrictTextField
from guardreview.learning.export_filters import AGREEMENTS
from guardreview.learning.models import Export
from guardreview.review.models import Label
from guardreview.verdicts.models import Exchange, choices

DECISIONS, SEVERITIES, LAYERS = choices(Decision), choices(Severity), choices(Layer)
HEALTH = [("ok", "ok")]
AGREEMENT_CHOICES = [(name, name) for name in AGREEMENTS]
CONVERSATION_HELP = "Groups the exchanges of one conversation, for the pharmacist's eyes."


class _Input(serializers.Serializer[Any]):
    """Both optional fields may also be null."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        values: dict[str, Any] = super().to_internal_value(data)
        return {name: value for name, value in values.items() if value is not None}


class ExchangeInput(_Input):
    """One query and the response that the LLM gave to it."""

    query = PatientTextField(help_text="What the patient asked.")
    response = PatientTextField(help_text="What the LLM answered, as the patient would read it.")
    conversation_id = StrictTextField(
        max_length=200, required=False, allow_blank=True, allow_null=True, help_text=CONVERSATION_HELP
    )
    metadata = MetadataField(required=False, allow_null=True, help_text="Anything that the app wants to find again.")
    patient_waiting = serializers.BooleanField(
        required=False,
        allow_null=True,
        help_text="False if nobody waits for the answer, as in a batch; pharmacists then have more time. True unless said.",
    )


class ChatInput(_Input):
    """What the patient asks the chat model."""

    message = PatientTextField(help_text="What the patient asks.")
    conversation_id = StrictTextField(
        max_length=200,
        required=False,
        allow_blank=True,
        allow_null=True,
        help_text="The model is told what was said before under the same id, as the patient read it.",
    )


class PageInput(serializers.Serializer[Any]):
    """The parameters of a listing."""

    cursor = serializers.CharField(required=False, max_length=200, help_text="`next_cursor` of the page before.")
    limit = serializers.IntegerField(required=False, default=50, min_value=1, max_value=200, help_text="Rows in a page.")


class ExchangePageInput(PageInput):
    """The parameters of the list of exchanges."""

    status = serializers.ChoiceField(Exchange.Status.choices, required=False)
    decision = serializers.ChoiceField(DECISIONS, required=False)


class LabelPageInput(PageInput):
    """The parameters of the list of labels."""

    since = serializers.DateTimeField(required=False, help_text="Only labels settled at this time or later.")


class EvidenceOutput(serializers.Serializer[Any]):
    """A span of the response: `text == response[start:end]`, in Unicode code points."""

    start = serializers.IntegerField()
    end = serializers.IntegerField()
    text = serializers.CharField()
    rule = serializers.CharField()
    category = serializers.CharField()


class LayerResultOutput(serializers.Serializer[Any]):
    """What one layer of the cascade said, or, in `error`, why it failed."""

    layer = serializers.ChoiceField(LAYERS)
    is_safe = serializers.BooleanField()
    category = serializers.CharField()
    categories = serializers.ListField(child=serializers.CharField())
    severity = serializers.ChoiceField(SEVERITIES, allow_null=True)
    reason = serializers.CharField()
    confidence = serializers.FloatField()
    scores = serializers.DictField(child=serializers.FloatField(), help_text="P(category); `unsafe`: of any harm.")
    evidence = EvidenceOutput(many=True)
    escalate = serializers.BooleanField(help_text="Something was found that this layer may not block by itself.")
    version = serializers.CharField()
    latency_ms = serializers.FloatField()
    cost_usd = serializers.FloatField()
    input_tokens = serializers.IntegerField(help_text="As the judge's provider counted them.")
    output_tokens = serializers.IntegerField()
    language = serializers.CharField(help_text="Of the response, ISO 639-1; `und`: undetermined; empty: not looked at.")
    error = serializers.CharField()


class OutcomeOutput(serializers.Serializer[Any]):
    """What a pharmacist settled. `confirms` is null where the cascade had left the decision open."""

    label = serializers.ChoiceField(Label.Value.choices)
    categories = serializers.ListField(child=serializers.CharField())
    severity = serializers.ChoiceField(SEVERITIES, allow_null=True)
    confirms = serializers.BooleanField(allow_null=True)
    corrected_answer = serializers.CharField(
        allow_null=True,
        help_text="What the pharmacist wrote for the patient in place of an unsafe response; `answer` is it then.",
    )
    decided_at = serializers.DateTimeField()


class ExchangeRowOutput(serializers.Serializer[Any]):
    """An exchange in a list. All from `decision` on is null until the cascade has decided."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(Exchange.Status.choices)
    created_at = serializers.DateTimeField()
    conversation_id = serializers.CharField()
    decision = serializers.ChoiceField(DECISIONS, allow_null=True)
    category = serializers.CharField(allow_null=True)
    severity = serializers.ChoiceField(SEVERITIES, allow_null=True)
    confidence = serializers.FloatField(allow_null=True)
    layer = serializers.CharField(allow_null=True)


class ExchangeOutput(ExchangeRowOutput):
    """An exchange with its verdict, the trace of its layers and what a pharmacist made of it."""

    metadata = MetadataField()
    is_safe = serializers.BooleanField(allow_null=True, help_text="True for `allow` alone.")
    categories = serializers.ListField(child=serializers.CharField())
    reason = serializers.CharField(allow_null=True)
    answer = serializers.CharField(
        allow_null=True, help_text="The text to show: the response if it may be shown, else the fallback. Null while undecided."
    )
    policy = serializers.CharField(allow_null=True)
    versions = serializers.DictField(child=serializers.CharField(), help_text="Of every layer that ran.")
    results = LayerResultOutput(many=True)
    outcome = OutcomeOutput(allow_null=True)


class ExchangePageOutput(serializers.Serializer[Any]):
    """Newest first. `next_cursor` is null on the last page."""

    results = ExchangeRowOutput(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class LabelOutput(serializers.Serializer[Any]):
    """A settled label with the exchange that it is about. The reviewer is a pseudonym."""

    id = serializers.UUIDField(help_text="Of the exchange.")
    query = serializers.CharField()
    response = serializers.CharField()
    label = serializers.ChoiceField(Label.Value.choices)
    categories = serializers.ListField(child=serializers.CharField())
    severity = serializers.ChoiceField(SEVERITIES, allow_null=True)
    verdict = serializers.ChoiceField(DECISIONS)
    verdict_category = serializers.CharField()
    layer = serializers.CharField()
    confirms = serializers.BooleanField(allow_null=True)
    reviewer = serializers.CharField()
    app = serializers.CharField()
    inclusion_probability = serializers.FloatField()
    labelled_at = serializers.DateTimeField()


class LabelPageOutput(serializers.Serializer[Any]):
    """In the order in which they were settled. `next_cursor` is null on the last page."""

    results = LabelOutput(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class LabelExportInput(_Input):
    """What an export takes. What is not given is not bounded."""

    format = serializers.ChoiceField(Export.Format.choices, required=False, allow_null=True, help_text="`jsonl` unless said.")
    since = serializers.DateTimeField(required=False, allow_null=True, help_text="Only labels settled at this time or later.")
    until = serializers.DateTimeField(required=False, allow_null=True, help_text="Only labels settled before.")
    category = StrictTextField(max_length=60, required=False, allow_null=True, help_text="A category, or a family of them.")
    layer = serializers.ChoiceField(LAYERS, required=False, allow_null=True, help_text="Whose verdict it was.")
    agreement = serializers.ChoiceField(
        AGREEMENT_CHOICES, required=False, allow_null=True, help_text="Whether the verdict was right; `undecided`: it was hold."
    )
    bases = serializers.MultipleChoiceField(
        choices=Label.Basis.choices, required=False, allow_null=True, help_text="How it was settled."
    )


class LabelExportOutput(serializers.Serializer[Any]):
    """An export. `sha256` is that of its content; it and all below are null until it is `ready`."""

    id = serializers.IntegerField()
    status = serializers.ChoiceField(Export.Status.choices)
    format = serializers.ChoiceField(Export.Format.choices)
    filters = serializers.DictField()
    labels_up_to = serializers.IntegerField(help_text="The greatest key of a label that may be in it.")
    rows = serializers.IntegerField(help_text="Written so far.")
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    sha256 = serializers.CharField(allow_null=True)
    bytes = serializers.IntegerField(allow_null=True)
    card = serializers.DictField(allow_null=True, help_text="Counts, filters, sampling weights, schema version.")
    content = serializers.CharField(allow_null=True, help_text="Where it is downloaded.")
    error = serializers.CharField(allow_null=True)


class ChatOutput(serializers.Serializer[Any]):
    """What the patient may read. `decision` and `category` are null if the cascade did not decide in time."""

    answer = serializers.CharField(help_text="The model's answer if it was allowed, else the fallback.")
    blocked = serializers.BooleanField()
    decision = serializers.ChoiceField(DECISIONS, allow_null=True)
    category = serializers.CharField(allow_null=True)
    severity = serializers.ChoiceField(SEVERITIES, allow_null=True)
    confidence = serializers.FloatField(allow_null=True)
    exchange = serializers.UUIDField(help_text="To be asked for later at `/api/v1/exchanges/{id}`.")
    conversation_id = serializers.CharField()


class HealthOutput(serializers.Serializer[Any]):
    status = serializers.ChoiceField(HEALTH)


class ProblemOutput(serializers.Serializer[Any]):
    """RFC 9457 problem details."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField()
    errors = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()), required=False, help_text="By field or header."
    )
    exchange = serializers.UUIDField(required=False, help_text="The exchange that was stored all the same.")
