"""Imports of labelled sets: a file comes in, its mapping is shown and changed, and it is taken or discarded."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from classifiers.result import CATEGORIES
from guardreview.core.models import User
from guardreview.core.roles import Act, requires
from guardreview.core.services import audit
from guardreview.core.streaming import stream
from guardreview.learning.import_files import DELIMITERS, ENCODINGS, FileForm, InvalidFile
from guardreview.learning.import_mapping import FIELDS, NEEDED, ImportMapping, InvalidMapping, guessed, with_words
from guardreview.learning.imports import (
    AlreadyImported,
    WaitingFile,
    file_discard,
    file_get,
    file_receive,
    first_rows,
    label_set_withdraw,
    labels_import,
    preview,
    report_csv,
)
from guardreview.learning.models import LabelSet
from guardreview.learning.presentation_labels import FIELD_WORDS, label_set_line
from guardreview.learning.selectors import latest_label_sets
from guardreview.review.presentation import category_words


@never_cache
@require_http_methods(["GET", "POST"])
@requires(Act.IMPORT_LABELS)
def imports(request: HttpRequest) -> HttpResponse:
    """The label sets; a POST brings a file, which then waits for its mapping."""
    problem = ""
    if request.method == "POST":
        sent = request.FILES.get("file")
        try:
            if sent is None:
                raise InvalidFile("Choose a file.")
            waiting = file_receive(chunks=sent.chunks(), name=sent.name or "", user=cast(User, request.user))
        except InvalidFile as error:
            problem = str(error)
        else:
            return redirect("import-preview", waiting=waiting.key)
    context = {"sets": [label_set_line(each) for each in latest_label_sets()], "problem": problem}
    return render(request, "learning/imports.html", context, status=422 if problem else 200)


@never_cache
@require_http_methods(["GET", "POST"])
@requires(Act.IMPORT_LABELS)
def import_preview(request: HttpRequest, waiting: UUID) -> HttpResponse:
    """The first rows as they will be read, by the guessed mapping, or by the one that a POST changes it to."""
    file = file_get(key=waiting, user=cast(User, request.user))
    if file is None:
        return _gone(request)
    return _preview(request, file)


@require_POST
@requires(Act.IMPORT_LABELS)
def import_store(request: HttpRequest, waiting: UUID) -> HttpResponse:
    """Take the rows that are new."""
    user = cast(User, request.user)
    file = file_get(key=waiting, user=user)
    if file is None:
        return _gone(request)
    try:
        mapping = _sent(request, file)
        label_set = labels_import(
            path=file.path, name=request.POST.get("name", "").strip() or file.name, mapping=mapping, user=user
        )
    except (InvalidFile, InvalidMapping, AlreadyImported) as error:
        return _preview(request, file, problem=str(error))
    file_discard(file)
    report = label_set.report
    messages.success(request, f"{report['taken']:,} of {report['rows']:,} rows are label set {label_set.pk}.")
    return redirect("imports")


@require_POST
@requires(Act.IMPORT_LABELS)
def import_discard(request: HttpRequest, waiting: UUID) -> HttpResponse:
    """Remove the file."""
    if file := file_get(key=waiting, user=cast(User, request.user)):
        file_discard(file)
    messages.success(request, "The file is gone.")
    return redirect("imports")


@never_cache
@require_GET
@requires(Act.IMPORT_LABELS)
def import_report(request: HttpRequest, set_id: int) -> HttpResponseBase:
    """The refused rows of a set as CSV: numbers and reasons, nobody's words."""
    label_set = get_object_or_404(LabelSet, pk=set_id)
    response = StreamingHttpResponse(
        stream(report_csv(label_set.report), request=request), content_type="text/csv; charset=utf-8"
    )
    response.headers["Content-Disposition"] = f'attachment; filename="label-set-{label_set.pk}-refused.csv"'
    return response


@require_POST
@requires(Act.IMPORT_LABELS)
def import_withdraw(request: HttpRequest, set_id: int) -> HttpResponse:
    """Nothing trains on the set any more."""
    label_set = get_object_or_404(LabelSet, pk=set_id)
    if label_set_withdraw(label_set=label_set, user=cast(User, request.user)):
        messages.success(request, f"Label set {label_set.pk} is withdrawn.")
    return redirect("imports")


def _gone(request: HttpRequest) -> HttpResponse:
    messages.error(request, "That file does not wait here any more. Bring it again.")
    return redirect("imports")


def _preview(request: HttpRequest, file: WaitingFile, *, problem: str = "") -> HttpResponse:
    mapping, rows, context = ImportMapping(file.form, {}), [], dict[str, Any]()
    try:
        # Even a mapping by which nothing can be read is shown, so that it can be mended.
        mapping = _sent(request, file) if request.method == "POST" else guessed(file.form, first_rows(file.path, file.form))
        context = _choices(file, mapping)
        rows = preview(file.path, mapping.checked())
        audit(
            actor=request.user.get_username(), action="labels.import_preview", target=f"file:{file.sha256[:16]}", rows=len(rows)
        )
    except (InvalidFile, InvalidMapping) as error:
        problem = problem or str(error)
    context = {
        "file": file,
        "name": request.POST.get("name", file.name),
        "mapping": mapping,
        "rows": rows,
        "problem": problem,
        "encodings": list(ENCODINGS.items()),
        "delimiters": list(DELIMITERS.items()),
        **context,
    }
    return render(request, "learning/imports_preview.html", context, status=422 if problem else 200)


def _choices(file: WaitingFile, mapping: ImportMapping) -> dict[str, Any]:
    """What the form offers: each field with its column, each word with what it is read as."""
    names = list(dict.fromkeys(name for row in first_rows(file.path, mapping.form) for name in (row.cells or ())))
    return {
        "names": names,
        "fields": [(name, FIELD_WORDS[name], mapping.columns.get(name, ""), name in NEEDED) for name in FIELDS],
        "labels": mapping.labels.items(),
        "words": mapping.categories.items(),
        "categories": [(category, category_words(category)) for category in CATEGORIES],
    }


def _sent(request: HttpRequest, file: WaitingFile) -> ImportMapping:
    """The form's mapping. Words that were not shown before are read as they are guessed. Raises InvalidFile."""
    sent = request.POST
    form = FileForm(file.form.kind, sent.get("encoding", file.form.encoding), sent.get("delimiter", file.form.delimiter))
    if (form.encoding and form.encoding not in ENCODINGS) or (form.delimiter and form.delimiter not in DELIMITERS):
        raise InvalidFile("Choose an encoding and a separator from the list.")
    columns = {name: column for name in FIELDS if (column := sent.get(f"column-{name}", ""))}
    labels, categories = (
        dict(zip(sent.getlist(f"{kind}-word"), sent.getlist(f"{kind}-as"), strict=False)) for kind in ("label", "category")
    )
    mapping = ImportMapping(form, columns, labels, categories, sent.get("default_category", ""))
    return with_words(mapping, first_rows(file.path, form))
