"""The web server's entry point: `uvicorn guardreview.asgi:application`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardreview.settings")

application = get_asgi_application()
