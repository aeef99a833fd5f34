# syntax=docker/dockerfile:1
# `serve` runs everything but training and has no torch; `learning` is the same with scikit-learn, which retrains the head.

# The Python that the tests run on.
FROM python:3.11-slim-bookworm AS base
ENV ORT_DISABLE_TELEMETRY=1 \
    PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app


# torch is needed once, to turn the encoder into ONNX. It stays in this stage.
FROM base AS builder
# The address of an index with torch's CPU builds. Without it the build works, but may fetch gigabytes of CUDA libraries.
ARG PIP_EXTRA_INDEX_URL=""
COPY requirements.txt requirements-serve.txt constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/venv && pip install -r requirements.txt
COPY manage.py ./
COPY classifiers ./classifiers
COPY guardreview ./guardreview
# No key is kept: it is this command's alone.
RUN GUARDREVIEW_SECRET_KEY=not-kept GUARDREVIEW_VAR_DIR=/build python manage.py setup --model-only


FROM base AS packages
COPY requirements-serve.txt constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/venv && pip install -r requirements-serve.txt


FROM base AS serve
# Models that learning makes lie in GUARDREVIEW_VAR_DIR/models, on a volume; `manage.py setup` copies the built one there.
ENV GUARDREVIEW_VAR_DIR=/var/lib/guardreview \
    GUARDREVIEW_PREBUILT_MODELS=/opt/models
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin guardreview \
    && install --directory --owner guardreview --mode 0750 /var/lib/guardreview /var/lib/guardreview/models \
       /var/lib/guardreview/exports /var/lib/guardreview/imports
COPY --from=packages /opt/venv /opt/venv
COPY --from=builder /build/models /opt/models
COPY manage.py ./
COPY classifiers ./classifiers
COPY guardreview ./guardreview
COPY templates ./templates
COPY examples ./examples
RUN GUARDREVIEW_SECRET_KEY=not-kept python manage.py collectstatic --noinput
USER 10001
EXPOSE 8000
# The header is what a TLS proxy sends; without it the check would be redirected to https.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('localhost', 8000, timeout=4); c.request('GET', '/api/health', headers={'X-Forwarded-Proto': 'https'}); raise SystemExit(c.getresponse().status != 200)"]
CMD ["uvicorn", "guardreview.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--lifespan", "off", "--log-level", "warning", "--no-access-log", "--no-server-header"]


FROM serve AS learning
USER root
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt \
    --mount=type=bind,source=constraints.txt,target=/tmp/constraints.txt \
    pip install -c /tmp/constraints.txt "$(grep '^scikit-learn==' /tmp/requirements.txt)"
USER 10001
HEALTHCHECK NONE
CMD ["celery", "-A", "guardreview", "worker", "-n", "learning@%h", "-Q", "learning", "--pool", "prefork", "-c", "1", "--loglevel", "info"]
