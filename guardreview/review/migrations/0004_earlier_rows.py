"""What earlier releases stored, as this one reads it: whose second opinion a review was, and what is to be embedded."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Exists, OuterRef
from django.utils import timezone

LATEST = 5000


def second_opinions(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    reviews = apps.get_model("review", "Review").objects
    earlier = reviews.filter(item=OuterRef("item"), pk__lt=OuterRef("pk"))
    later = list(reviews.filter(Exists(earlier), stage="first", round=1).values_list("pk", flat=True))
    for begin in range(0, len(later), 500):
        reviews.filter(pk__in=later[begin : begin + 500]).update(stage="second")


def embeddings(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Of what waits for a pharmacist, and of what was settled last, as `review.similar` looks through it."""
    items = apps.get_model("verdicts", "ReviewItem").objects.filter(status="open").order_by("-pk")
    labels = apps.get_model("review", "Label").objects.order_by("-pk")
    wanted = dict.fromkeys([*items.values_list("exchange_id", flat=True)[:LATEST], *labels.values_list("exchange_id", flat=True)[:LATEST]])
    event = apps.get_model("core", "OutboxEvent")
    now = timezone.now()
    event.objects.bulk_create([event(topic="review.embed", target=str(pk), available_at=now) for pk in wanted], batch_size=500)


class Migration(migrations.Migration):
    dependencies = [("review", "0003_words_of_exchanges"), ("core", "0002_outbox_and_preferences")]

    operations = [
        migrations.RunPython(second_opinions, migrations.RunPython.noop),
        migrations.RunPython(embeddings, migrations.RunPython.noop),
    ]
