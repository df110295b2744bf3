# The harness on NVIDIA GPUs; torch brings its CUDA libraries, the host its driver. Build from the repository's root:
#   docker build -f containers/cuda.Dockerfile -t long-context-harness:cuda .
#   docker run --rm --gpus all -v "$PWD/runs:/data/runs" -v harness-cache:/cache long-context-harness:cuda doctor
FROM python:3.12-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    HARNESS_CACHE=/cache/harness \
    HF_HOME=/cache/huggingface

WORKDIR /opt/harness
COPY . .
RUN pip install -c constraints.txt . \
    && useradd --create-home --uid 1000 harness \
    && mkdir -p /data /cache \
    && chown harness /data /cache

USER 1000
WORKDIR /data
VOLUME ["/cache"]
ENTRYPOINT ["harness"]
CMD ["--help"]
