"""Exports count the workers lost over them, and their files are deleted after a while."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("learning", "0005_withdrawn_labels_free_their_texts")]

    operations = [
        migrations.AddField(
            model_name="export",
            name="attempts",
            field=models.PositiveSmallIntegerField(default=0, help_text="Workers that were lost over it since its last part."),
        ),
        migrations.AlterField(
            model_name="export",
            name="place",
            field=models.CharField(
                blank=True, help_text="The folder of its parts in the storage; empty once they are deleted.", max_length=500
            ),
        ),
        migrations.AlterField(
            model_name="export",
            name="status",
            field=models.CharField(
                choices=[
                    ("queued", "Queued"),
                    ("running", "Running"),
                    ("ready", "Ready"),
                    ("failed", "Failed"),
                    ("expired", "Expired"),
                ],
                default="queued",
                max_length=10,
            ),
        ),
    ]
