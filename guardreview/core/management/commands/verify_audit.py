"""`manage.py verify_audit`: whether the audit log was altered."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from guardreview.core.services import audit_verify


class Command(BaseCommand):
    help = "Check the audit log's hash chain; exit status 1 and the first bad row if it is broken."

    def handle(self, *args: Any, **options: Any) -> None:
        count, broken = audit_verify()
        if broken is not None:
            raise CommandError(f"the audit log is broken at row {broken}")
        self.stdout.write(f"{count} rows, unbroken")
