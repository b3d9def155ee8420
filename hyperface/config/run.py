"""The sections `run`, `storage` and `cluster`: the place of a run, the way to its storage, and who works on it."""

import re
from dataclasses import dataclass
from typing import Literal

from hyperface.config.fields import Rules, knob, number


@dataclass(frozen=True)
class RunConfig:
    dir: str = knob("")
    """Place of the run: a local directory, file:///path or s3://bucket/prefix. Required."""
    seed: int = number(0, at_least=0, below=2**63)
    """Seed of everything random in the run."""


@dataclass(frozen=True)
class StorageConfig:
    endpoint_url: str = knob("")
    """S3 endpoint; empty: AWS_ENDPOINT_URL, else AWS itself. Credentials come from the standard AWS chain only."""
    region: str = knob("")
    """S3 region; empty: the standard AWS chain."""
    addressing_style: Literal["auto", "path", "virtual"] = knob("auto")
    """Style in which S3 requests name the bucket; self-hosted gateways usually want `path`."""
    patience_s: float = knob(120.0, at_least=0, unit="seconds", least="0: never tried again")
    """Seconds for which a request is tried again while the store is unreachable or answers with a server error. A job
    that has never reached it gives up after a few."""


@dataclass(frozen=True)
class ClusterConfig:
    address: str = knob("")
    """Address of a running Ray cluster; empty: the job's own cluster, else a Ray started in this process."""
    num_cpus: int = knob(0, at_least=0, least="0: all")
    """CPUs of a Ray started in this process; 0: all of the machine."""
    log_format: Literal["text", "json"] = knob("text")
    """Form of what a job says: lines for people, or a JSON object a line, with the run, the stage, the shard and the
    attempt that it is about."""
    tensorboard: bool = knob(False)
    """Also write curves for TensorBoard: `tensorboard --logdir RUN/tensorboard`."""


def run_rules(r: RunConfig) -> Rules:
    yield "run.dir", bool(r.dir), "is required: a local directory or s3://bucket/prefix, e.g. run.dir=runs/demo"
    bare = not re.match(r"s3://[^/]*[:@]", r.dir)
    rule = "must name no user or password: write s3://bucket/prefix; credentials come from the standard AWS chain only"
    yield "run.dir", bare, rule


def storage_rules(s: StorageConfig) -> Rules:
    web = ("http://", "https://")
    endpoint = not s.endpoint_url or s.endpoint_url.startswith(web)
    yield "storage.endpoint_url", endpoint, "must begin with http:// or https://, or be empty for the AWS default"
    secret = "@" in s.endpoint_url
    rule = "must name no user or password: credentials come from the standard AWS chain only"
    yield "storage.endpoint_url", not secret, rule
