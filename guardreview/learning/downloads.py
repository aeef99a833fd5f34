"""A finished export as an HTTP answer: whole, or the part that a broken-off download asks for (RFC 9110, one range)."""

from __future__ import annotations

import re

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from guardreview.core.streaming import stream_bytes
from guardreview.learning.export_formats import CONTENT_TYPES, EXTENSIONS
from guardreview.learning.export_storage import content_size
from guardreview.learning.exports import export_bytes, export_download_record
from guardreview.learning.models import Export

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def export_response(export: Export, *, request: HttpRequest, actor: str) -> HttpResponseBase:
    """Its bytes, in constant memory. Each answer with some is in the audit log.

    `If-Range` with another entity tag than this export's gives all of it, as does a `Range` of several parts.
    """
    size, tag = content_size(export), f'"{export.sha256}"'
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-store"}
    if tag in request.headers.get("If-None-Match", ""):
        return HttpResponse(status=304, headers=headers)
    wanted = (0, size)
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    ranged = found is not None and any(found.groups()) and request.headers.get("If-Range", tag) == tag
    if found is not None and ranged:
        wanted = _wanted(found[1], found[2], size)
        if wanted[0] >= wanted[1]:
            return HttpResponse(status=416, headers={**headers, "Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {wanted[0]}-{wanted[1] - 1}/{size}"
    headers["Content-Length"] = str(wanted[1] - wanted[0])
    headers["Content-Disposition"] = f'attachment; filename="labels-{export.pk}.{EXTENSIONS[export.format]}"'
    content_type = CONTENT_TYPES[export.format]
    if request.method == "HEAD":
        return HttpResponse(status=206 if ranged else 200, headers=headers, content_type=content_type)
    export_download_record(export=export, actor=actor)
    chunks = stream_bytes(export_bytes(export, *wanted), request=request)
    return StreamingHttpResponse(chunks, status=206 if ranged else 200, headers=headers, content_type=content_type)


def _wanted(first: str, last: str, size: int) -> tuple[int, int]:
    """From and up to which byte; empty (from >= up to) if there is no such part."""
    if not first:  # the last so many
        return max(0, size - int(last)) if int(last) else size, size
    return int(first), min(int(last) + 1, size) if last else size
