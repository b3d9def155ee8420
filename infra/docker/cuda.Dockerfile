# What a node with NVIDIA GPUs needs: as cpu.Dockerfile, with PyTorch's default build. From the root of the repository:
#   docker build -f infra/docker/cuda.Dockerfile -t REGISTRY/hyperface-cuda:TAG .
# That build brings the CUDA libraries of its own version, and the driver comes from the node through NVIDIA's container
# toolkit; so the base is the one of the other image, with the same Python, as Ray demands of its nodes.
ARG BASE=python:3.11.14-slim-bookworm
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# As in cpu.Dockerfile; torch.compile builds its kernels' launchers with a C compiler.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/hyperface
COPY pyproject.toml infra/constraints/cpu.txt infra/constraints/cuda.txt ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
       > requirements.txt \
    && pip install --no-cache-dir --constraint cuda.txt --requirement requirements.txt boto3 \
    && python -c 'import torch; assert torch.version.cuda, f"torch {torch.__version__} is no CUDA build"'

RUN useradd --uid 1000 --user-group --create-home --shell /bin/bash ray
ENV HOME=/home/ray RAY_USAGE_STATS_ENABLED=0
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /home/ray
