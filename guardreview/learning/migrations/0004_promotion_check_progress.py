"""A check before promotion takes minutes: how far it is."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("learning", "0003_policy_change_answers")]

    operations = [
        migrations.AddField(
            model_name="promotioncheck",
            name="status",
            field=models.CharField(
                choices=[("queued", "Queued"), ("running", "Running"), ("done", "Done"), ("failed", "Failed")],
                default="done",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="promotioncheck", name="progress", field=models.CharField(blank=True, max_length=200)
        ),
        migrations.AddField(model_name="promotioncheck", name="step", field=models.PositiveIntegerField(default=0)),
        migrations.AddField(
            model_name="promotioncheck",
            name="steps",
            field=models.PositiveIntegerField(default=0, help_text="0: not known."),
        ),
        migrations.AddField(model_name="promotioncheck", name="error", field=models.CharField(blank=True, max_length=500)),
        migrations.AddField(
            model_name="promotioncheck", name="heartbeat_at", field=models.DateTimeField(blank=True, null=True)
        ),
    ]
