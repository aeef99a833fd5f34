from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("verdicts", "0004_stages_priority_audit"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name="reviewitem",
            index=models.Index(condition=models.Q(("status", "settling")), fields=["id"], name="settling_items"),
        ),
    ]
