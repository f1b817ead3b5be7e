# The operator. Built by `python3 cluster images`, or by hand:
#   docker build --tag localhost/quantbench/operator:0.1.0 .
# Behind a proxy that signs its own certificates: --secret id=ca-bundle,src=/etc/ssl/certs/ca-certificates.crt
ARG BASE_IMAGE=python:3.11.14-slim-bookworm

FROM ${BASE_IMAGE} AS dependencies
RUN --mount=type=secret,id=ca-bundle,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --quiet --no-cache-dir uv==0.13.9
# The root file system is read-only at run time, so Python is compiled here.
ENV UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /app
COPY pyproject.toml uv.lock ./
RUN --mount=type=secret,id=ca-bundle,target=/etc/ssl/certs/ca-certificates.crt \
    /opt/uv/bin/uv sync --frozen --no-dev --no-install-project

# Our own package apart from what it depends on: a change of the sources makes a layer of kilobytes.
FROM dependencies AS project
COPY README.md ./
COPY operator operator
RUN --mount=type=secret,id=ca-bundle,target=/etc/ssl/certs/ca-certificates.crt \
    /opt/uv/bin/uv pip install --no-deps --python .venv/bin/python --prefix /app/project .

FROM ${BASE_IMAGE}
COPY --from=dependencies /app/.venv /app/.venv
COPY --from=project /app/project /app/.venv
COPY benchmarks /app/benchmarks
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp
USER 65532:65532
ENTRYPOINT ["quantbench", "operator"]
