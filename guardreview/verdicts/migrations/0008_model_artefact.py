"""Under which hash the storage of models has each version's files."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("verdicts", "0007_shadow_and_learning_share")]

    operations = [
        migrations.AddField(
            model_name="modelversion",
            name="artefact",
            field=models.CharField(
                blank=True,
                editable=False,
                help_text="SHA-256 of its manifest, under which the storage of models has it.",
                max_length=64,
            ),
        ),
    ]
