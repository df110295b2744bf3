# The harness on CPUs. Build from the repository's root:
#   docker build -f containers/cpu.Dockerfile -t long-context-harness:cpu .
#   docker run --rm -v "$PWD/runs:/data/runs" -v harness-cache:/cache long-context-harness:cpu run --method plain --task passkey
FROM python:3.12-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    HARNESS_CACHE=/cache/harness \
    HF_HOME=/cache/huggingface

WORKDIR /opt/harness
COPY . .
# torch first, from PyTorch's index of CPU builds: the default one has gigabytes of CUDA libraries
RUN pip install "$(grep '^torch==' constraints.txt)" --index-url https://download.pytorch.org/whl/cpu \
    && pip install -c constraints.txt . \
    && useradd --create-home --uid 1000 harness \
    && mkdir -p /data /cache \
    && chown harness /data /cache

USER 1000
WORKDIR /data
VOLUME ["/cache"]
ENTRYPOINT ["harness"]
CMD ["--help"]
