# What a node without a GPU needs; the code travels with each job (infra/adr/0013). From the root of the repository:
#   docker build -f infra/docker/cpu.Dockerfile --build-arg TORCH_INDEX=URL -t REGISTRY/hyperface-cpu:TAG .
# URL: of PyTorch's CPU builds, as "Get Started" of pytorch.org shows it. A tag may move; its content does not:
#   --build-arg BASE=python@sha256:...   from `docker buildx imagetools inspect python:3.11.14-slim-bookworm`
ARG BASE=python:3.11.14-slim-bookworm
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# KubeRay probes pods with wget; the head of `ray up` sets up its workers with ssh and rsync.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/*

# Torch first and alone: a plain one would bring CUDA. boto3: Ray fetches code from s3:// and starts AWS nodes with it.
WORKDIR /opt/hyperface
COPY pyproject.toml infra/constraints/cpu.txt ./
ARG TORCH_INDEX
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
       > requirements.txt \
    && pip install --no-cache-dir --constraint cpu.txt --extra-index-url "${TORCH_INDEX:?is the URL of the CPU builds}" torch \
    && pip install --no-cache-dir --constraint cpu.txt --requirement requirements.txt boto3 \
    && python -c 'import torch; assert torch.version.cuda is None, f"torch {torch.__version__} is no CPU build"'

# `ray up` reads HOME from the image. Its files on a node belong to user 1000.
RUN useradd --uid 1000 --user-group --create-home --shell /bin/bash ray
ENV HOME=/home/ray RAY_USAGE_STATS_ENABLED=0
USER 1000
WORKDIR /home/ray
