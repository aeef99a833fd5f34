"""An index of the words of decided exchanges, where the database is PostgreSQL; see `review.search`."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

NAME = "exchange_words"
MARKS = (
    "./:@-+_#&?=~<>;\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u2022\u00b7\u00ab\u00bb\u00b0\u00d7\u2264\u2265\u2192\u00a0\u202f"
)
WORDS = f"to_tsvector('simple', translate(left(query, 100000) || ' ' || left(response, 100000), '{MARKS}', '{' ' * len(MARKS)}'))"


def make(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        # Left over from an attempt that was broken off, it would be there and not be used.
        drop(apps, schema_editor)
        # Concurrently: exchanges come in all the while.
        schema_editor.execute(
            f"CREATE INDEX CONCURRENTLY {NAME} ON verdicts_exchange USING gin ({WORDS}) WHERE status = 'decided'", params=None
        )


def drop(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("review", "0002_rounds_labels_guidelines"),
        ("verdicts", "0004_stages_priority_audit"),
    ]

    operations = [migrations.RunPython(make, drop)]
