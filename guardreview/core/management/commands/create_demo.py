"""`manage.py create_demo`: one account of each role and a demo app with its key, where they are missing."""

from typing import Any

from django.core.management.base import BaseCommand

from guardreview.core import demo


class Command(BaseCommand):
    help = "Create one account of each role (if nobody has an account) and a demo app with its API key, where they are missing."

    def handle(self, *args: Any, **options: Any) -> None:
        demo.demo_app_key()
        self.stdout.write(f"API key of the demo app: in {demo.key_path()}")
        passwords = demo.demo_accounts_create()
        for name, password in passwords.items():
            self.stdout.write(f"{name:<12}{password}")
        if not passwords:
            self.stdout.write("There are accounts already; `manage.py changepassword NAME` sets a new password.")
