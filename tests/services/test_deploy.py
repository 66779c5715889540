"""The examples under deploy/: accepted by what reads them, and true of this project."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.conftest import PROJECT

DEPLOY = PROJECT / "deploy"


class Object(BaseModel):
    """A part of KubeRay's API 1.7 with the fields that we use; any other is an error."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)


class Named(Object):
    name: str


class Source(Object):
    secret_ref: Named


class Resources(Object):
    # A quantity is a number or its text.
    requests: dict[str, int | str]
    limits: dict[str, int | str]


class Mount(Named):
    mount_path: str


class Container(Named):
    image: str
    env_from: list[Source]
    resources: Resources
    volume_mounts: list[Mount] = []


class Claim(Object):
    claim_name: str


class Volume(Named):
    persistent_volume_claim: Claim


class PodSecurity(Object):
    fs_group: int


class Pod(Object):
    containers: list[Container]
    volumes: list[Volume] = []
    security_context: PodSecurity | None = None


class Template(Object):
    spec: Pod


class Head(Object):
    ray_start_params: dict[str, str]
    template: Template


class Workers(Head):
    group_name: str
    replicas: int
    min_replicas: int
    max_replicas: int


class Authentication(Object):
    mode: Literal["disabled", "token"]


class Cluster(Object):
    ray_version: str
    auth_options: Authentication
    head_group_spec: Head
    worker_group_specs: list[Workers]

    @property
    def pods(self) -> list[Pod]:
        return [group.template.spec for group in (self.head_group_spec, *self.worker_group_specs)]


class Job(Object):
    entrypoint: str
    shutdown_after_job_finishes: bool
    ttl_seconds_after_finished: int
    backoff_limit: int
    ray_cluster_spec: Cluster


class RayJob(Object):
    api_version: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Named
    spec: Job


@pytest.fixture
def job() -> Job:
    return RayJob.model_validate(yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())).spec


@pytest.fixture
def launched() -> dict[str, Any]:
    """The cluster with the defaults that `ray up` adds, accepted by Ray's schema."""
    config: dict[str, Any] = prepare_config(yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text()))
    validate_config(config)
    return config


def test_cluster_workers_need_only_pinned_packages_and_the_token(launched: dict[str, Any]) -> None:
    installs = [command for command in launched["worker_setup_commands"] if "pip install" in command]
    lock = [f"~/ganflow/requirements/{name}.txt" for name in ("build", "run", "torch")]
    assert [word for command in installs for word in command.split() if word.endswith(".txt")] == lock
    assert all("--require-hashes" in command for command in installs[:2])
    more = [command for command in launched["head_setup_commands"] if "pip install" in command]
    assert all("-c " in command or "--no-deps" in command for command in more)
    assert any("RAY_AUTH_MODE=token" in command for command in launched["worker_setup_commands"])
    assert "/home/ubuntu/.ray/auth_token" in launched["file_mounts"]


def test_job_asks_for_a_token_and_the_pinned_ray(job: Job) -> None:
    assert job.ray_cluster_spec.auth_options.mode == "token"
    assert job.ray_cluster_spec.ray_version == version("ray")
    assert f"rayproject/ray:{version('ray')}-" in (DEPLOY / "rayjob.yaml").read_text()


def test_nodes_of_the_job_share_a_bucket_but_no_disk(job: Job) -> None:
    head, *workers = job.ray_cluster_spec.pods
    assert [mount.name for mount in head.containers[0].volume_mounts] == [volume.name for volume in head.volumes]
    assert workers and not any(pod.volumes for pod in workers)
    assert "train.storage=s3://" in job.entrypoint


def test_nodes_of_the_job_have_the_same_packages_and_secrets(job: Job) -> None:
    containers = [container for pod in job.ray_cluster_spec.pods for container in pod.containers]
    assert len({container.image for container in containers}) == 1
    assert len({source.secret_ref.name for container in containers for source in container.env_from}) == 1
