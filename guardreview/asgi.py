"""The web server's entry point: `uvicorn guardreview.asgi:application`."""

import os
from functools import partial

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardreview.settings")

django_application = get_asgi_application()

from django.conf import settings  # noqa: E402 - Django's apps must be loaded first
from django.urls import reverse  # noqa: E402

from guardreview.api.base import releasing  # noqa: E402
from guardreview.api.limits import BodyLimit  # noqa: E402
from guardreview.core.roles import Act  # noqa: E402
from guardreview.core.sessions import session_may  # noqa: E402
from guardreview.core.sqlite import hold_open  # noqa: E402
from guardreview.review.masking import masked  # noqa: E402

held_connection = hold_open()
# Masking compiles the patterns of personal data: done before the first page is asked for, which would wait for it.
masked("")
application = BodyLimit(
    django_application,  # type: ignore[arg-type]
    max_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
    # With what a form puts around a file.
    files={reverse("imports"): settings.IMPORT_MAX_BYTES + 2**16},
    may_upload=releasing(partial(session_may, act=Act.IMPORT_LABELS)),
)
