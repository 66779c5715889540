"""Every check with something wrong and with nothing wrong, on real processes, ports, folders and files."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from components.maintenance.doctor import exposure, guards, leftovers, machine, processes, reachability, versions
from components.maintenance.doctor.diagnosis import Diagnosis
from components.services.platform import Platform
from components.services.process import Process, folder_id
from components.workspace.workspace import Workspace
from tests.conftest import PROJECT, environment, ganflow

LISTENS = """
import socket, sys
server = socket.create_server((sys.argv[1], 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""
RAY = """
import sys, ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "workspace")
    for folder in (workspace.state, workspace.mlruns, workspace.root / "artifacts"):
        folder.mkdir(parents=True)
    workspace.params.write_text("")
    return workspace


@contextmanager
def started(*command: str, **extra: str) -> Iterator[tuple[psutil.Process, str]]:
    """A process and the first line that it says."""
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environment(**extra),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    try:
        yield psutil.Process(process.pid), process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def found(diagnoses: Iterable[Diagnosis]) -> Diagnosis:
    """The only one; where something is wrong it says what to do."""
    (diagnosis,) = diagnoses
    assert bool(diagnosis.remedy) == (diagnosis.ok is False)
    return diagnosis


# --- versions ---


@pytest.mark.parametrize(
    ("package", "bad", "good", "id"),
    [
        ("torch", "2.5.1+cpu", "2.6.0", "CVE-2025-32434"),
        ("ray", "2.55.1", "2.56.0", "CVE-2026-57516"),
        ("mlflow", "3.10.1", "3.11.0rc0", "CVE-2026-0545"),
        ("prefect", "3.6.13", "3.6.14", "CVE-2026-7723"),
        ("pillow", "12.3.0", "13.0.0", "CVE-2026-112403"),
        ("starlette", "1.3.0", "1.3.1", "CVE-2026-54283"),
        ("pyarrow", "14.0.0", "14.0.1", "CVE-2023-47248"),
        ("fastapi", "0.147.0", "0.146.9", "incompatible"),
    ],
)
def test_advisories(package: str, bad: str, good: str, id: str) -> None:
    for today in (versions.LISTED, date(2100, 1, 1)):
        wrong = found([versions.advisories({package: bad}, today)])
        assert wrong.ok is False
        assert id in wrong.words and package in wrong.remedy
    assert versions.advisories({package: good, "unheard-of": "1"}, versions.LISTED).ok


def test_an_old_list_of_advisories_excludes_nothing() -> None:
    last = versions.LISTED + timedelta(days=versions.DAYS)
    assert versions.advisories({}, last).ok
    old = found([versions.advisories({}, last + timedelta(days=1))])
    assert old.ok is None
    assert f"known on {versions.LISTED}" in old.words and f"{versions.DAYS + 1} days ago" in old.words
    assert "pip-audit" in old.words


def test_no_advisory_applies_to_the_pinned_versions() -> None:
    pins = re.findall(r"^([\w.-]+)==(\S+)$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE)
    assert {each.package for each in versions.ADVISORIES} <= {name.lower() for name, _ in pins}
    assert versions.advisories({name.lower(): version for name, version in pins}, versions.LISTED).ok


def test_versions(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("# tried\ntorch==2.13.0\nGitPython==3.2.1\n")
    assert versions.versions({"torch": "2.13.0+cpu", "gitpython": "3.2.1", "other": "1"}, pins).ok
    wrong = found([versions.versions({"torch": "2.12.0", "gitpython": "3.2.1"}, pins)])
    assert wrong.ok is False
    assert "torch 2.12.0 (2.13.0)" in wrong.words and "GitPython" not in wrong.words
    assert versions.versions({}, tmp_path / "none").ok is None


def test_dvc_cache(tmp_path: Path) -> None:
    cache, root = tmp_path / "cache", tmp_path / "workspace"
    assert versions.dvc_cache(cache, root).ok
    cache.mkdir(mode=0o755)
    assert versions.dvc_cache(cache, root).ok
    wrong = found([versions.dvc_cache(cache, tmp_path)])
    assert wrong.ok is False and "came with the workspace" in wrong.words
    cache.chmod(0o777)
    wrong = found([versions.dvc_cache(cache, root)])
    assert wrong.ok is False and "others can write it" in wrong.words and "DVC_SITE_CACHE_DIR" in wrong.remedy


# --- who can reach what ---


@pytest.mark.parametrize("tool", ["mlflow server", "prefect server start"])
def test_ports_of_servers(tool: str) -> None:
    # A real port of a real process, which is known by its command line.
    with started("-c", LISTENS, "0.0.0.0", *tool.split()) as (process, port):
        (wrong,) = exposure.ports(processes.related([process]))
        assert wrong.ok is False and f"process {process.pid} at 0.0.0.0:{port}" in wrong.words
        assert "--host 127.0.0.1" in wrong.remedy
    with started("-c", LISTENS, "127.0.0.1", *tool.split()) as (process, _):
        assert found(exposure.ports(processes.related([process]))).ok
    guarded = {"PREFECT_SERVER_API_AUTH_STRING": "admin:hush"} if "prefect" in tool else {}
    with started("-c", LISTENS, "0.0.0.0", *tool.split(), "--app-name", "basic-auth", **guarded) as (process, _):
        assert found(exposure.ports(processes.related([process]))).ok


def test_ports_of_strangers_are_not_ours() -> None:
    with started("-c", LISTENS, "0.0.0.0", "something", "else") as (process, _):
        assert processes.related([process]) == []


def test_ray_itself_with_and_without_tokens_and_what_it_leaves() -> None:
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        left: list[psutil.Process] = []
        try:
            with started("-c", RAY, RAY_TMPDIR=folder, RAY_AUTH_MODE="token") as (driver, said):
                assert said == "ready"
                ours = processes.related(driver.children(recursive=True))
                left += ours
                assert {process.name() for process in ours} >= {"raylet", "gcs_server"}
                assert found(exposure.ports(ours)).ok
                assert found(leftovers.orphans(ours, {})).ok
                assert leftovers.ray_sessions(Path(folder, "ray"), ours, allowed=0).ok
                reaper = driver.parents()[-1].pid
            # The driver was killed; some of Ray's processes are slow to notice it.
            wrong = [each for each in leftovers.orphans(ours, {}, reaper) if each.ok is False]
            assert {each.remedy.split()[1].strip(",") for each in wrong} & {str(process.pid) for process in ours}
            ended = found([leftovers.ray_sessions(Path(folder, "ray"), [], allowed=0)])
            assert ended.ok is False and "1 ended sessions" in ended.words and f"rm -r {folder}/ray" in ended.remedy
            assert leftovers.ray_sessions(Path(folder, "ray"), [], allowed=1e9).ok
            with started("-c", RAY, RAY_TMPDIR=folder, RAY_AUTH_MODE="disabled") as (driver, _):
                ours = processes.related(driver.children(recursive=True))
                left += ours
                (wrong_port,) = exposure.ports(ours)
                assert wrong_port.ok is False and "RAY_AUTH_MODE=token" in wrong_port.remedy
        finally:
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, 5)


def test_a_token_that_others_can_read(tmp_path: Path) -> None:
    assert exposure.ray_token(tmp_path).ok is None
    file = tmp_path / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("hush")
    file.chmod(0o644)
    wrong = exposure.ray_token(tmp_path)
    assert wrong.ok is False and wrong.remedy == f"chmod 600 {file}" and "hush" not in str(wrong)
    file.chmod(0o600)
    assert exposure.ray_token(tmp_path).ok


def test_a_named_server_is_no_orphan() -> None:
    with started("-c", LISTENS, "127.0.0.1", "mlflow", "server") as (process, port):
        parent = os.getpid()
        wrong = found(leftovers.orphans([process], {}, parent))
        assert wrong.ok is False and f"kill {process.pid}" in wrong.remedy
        assert found(leftovers.orphans([process], {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}, parent)).ok
        assert found(leftovers.orphans([process], {})).ok


@pytest.mark.parametrize(
    ("variable", "address", "credentials"),
    [
        ("PREFECT_API_URL", "https://prefect.example/api", {"PREFECT_API_AUTH_STRING": "a:b"}),
        ("MLFLOW_TRACKING_URI", "https://mlflow.example", {"MLFLOW_TRACKING_TOKEN": "t"}),
        ("RAY_ADDRESS", "head.example:6379", {"RAY_AUTH_MODE": "token"}),
        ("RAY_ADDRESS", "head.example:6379", {"RAY_AUTH_TOKEN": "t"}),
    ],
)
def test_authentication(variable: str, address: str, credentials: dict[str, str]) -> None:
    wrong = found(exposure.authentication({variable: address}))
    assert wrong.ok is False and "no password" in wrong.words
    assert found(exposure.authentication({variable: address, **credentials})).ok
    assert found(exposure.authentication({variable: re.sub(r"[a-z]+[.]example", "127.0.0.1", address)})).ok
    clear = found(exposure.authentication({variable: f"http://{address.rpartition('//')[2]}", **credentials}))
    assert clear.ok is False and "in the clear" in clear.words and "https://" in clear.remedy


def test_ray_without_its_token_although_there_is_one() -> None:
    named = {"RAY_ADDRESS": "head.example:6379", "RAY_AUTH_TOKEN": "t", "RAY_AUTH_MODE": "disabled"}
    assert found(exposure.authentication(named)).ok is False


def test_no_server_needs_no_authentication() -> None:
    assert found(exposure.authentication({})).ok is None
    assert found(exposure.authentication({"MLFLOW_TRACKING_URI": "sqlite:////tmp/mlflow.db"})).ok


@pytest.mark.parametrize(
    "line",
    [
        "key: AKIAIOSFODNN7EXAMPLE",
        "repository: https://me:hush@example.org/repo.git",
        "    password: hush",
        'MLFLOW_TRACKING_TOKEN: "hush"',
        "aws_secret_access_key: hush",
    ],
)
def test_secrets_in_files_of_git(tmp_path: Path, line: str) -> None:
    params, deployments = tmp_path / "params.yaml", tmp_path / "prefect.yaml"
    params.write_text(f"train: {{}}\n{line}\n")
    wrong = found([exposure.secrets(params, deployments)])
    assert wrong.ok is False and "params.yaml line 2" in wrong.words
    assert "hush" not in wrong.words and "AKIA" not in wrong.words


def test_no_secrets_in_files_of_git(tmp_path: Path) -> None:
    params, deployments = tmp_path / "params.yaml", PROJECT / "prefect.yaml"
    params.write_text(
        "a: {password: null}\nb: {token: '{{ prefect.blocks.secret.name }}'}\nc: s3://bucket/p\npassword:\n"
    )
    assert exposure.secrets(params, deployments).ok
    assert exposure.secrets(PROJECT / "params.yaml").ok


# --- the machine ---


def test_disk(tmp_path: Path) -> None:
    assert found(machine.disk([tmp_path, tmp_path / "missing", tmp_path.parent], needed=1, share=0)).ok
    assert found(machine.disk([tmp_path], needed=1e18)).ok is False
    assert found(machine.disk([tmp_path], needed=0, share=1)).ok is False


def test_shared_memory(tmp_path: Path) -> None:
    assert machine.shared_memory(tmp_path, needed=1).ok
    assert found([machine.shared_memory(tmp_path, needed=1e18)]).ok is False
    assert machine.shared_memory(tmp_path / "missing").ok is None


def test_open_files() -> None:
    assert machine.open_files(1024).ok
    assert machine.open_files(-1).ok
    wrong = found([machine.open_files(256)])
    assert wrong.ok is False and "ulimit -n" in wrong.remedy


@contextmanager
def clock_server(seconds: float, status: int) -> Iterator[str]:
    """The address of a server whose clock is so many seconds ahead."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + seconds)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://somebody:hush@127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [200, 401])
def test_the_clock_against_a_server(status: int) -> None:
    for ahead, ok in ((0, True), (600, False), (-600, False)):
        with clock_server(ahead, status) as address:
            diagnosis = found([machine.clock(time.time(), [], {"PREFECT_API_URL": address})])
        assert diagnosis.ok is ok
        assert "hush" not in str(diagnosis)


def test_the_clock_against_files(workspace: Workspace) -> None:
    workspace.ledger.write_text("{}")
    now = time.time()
    assert machine.clock(now, [workspace.ledger, workspace.state / "holder.json"], {}).ok
    os.utime(workspace.ledger, (now + 3600, now + 3600))
    wrong = found([machine.clock(now, [workspace.ledger], {})])
    assert wrong.ok is False and "ledger.jsonl was written 3,600 s from now" in wrong.words
    assert machine.clock(0, [], {}).ok is False
    assert machine.clock(5e9, [], {}).ok is False


# --- what dead runs left ---


def test_staging(workspace: Workspace) -> None:
    now = time.time()
    for parent in ("artifacts", "mlruns"):
        (workspace.root / parent / ".model-x1y2z3").mkdir()
    assert leftovers.staging(workspace, now).ok
    wrong = found([leftovers.staging(workspace, now + 2 * leftovers.STAGING_SECONDS)])
    assert wrong.ok is False and "artifacts/.model-x1y2z3, mlruns/.model-x1y2z3" in wrong.words
    code = (
        "import sys; from pathlib import Path; from components.workspace.workspace import Workspace\n"
        "with Workspace(Path(sys.argv[1])).exclusive():\n"
        "    Path(sys.argv[1], 'artifacts', '.model-x1y2z3').mkdir(); print('held', flush=True); sys.stdin.read()"
    )
    with started("-c", code, str(workspace.root), PYTHONPATH=str(PROJECT)) as (_, said):
        assert said == "held"
        assert leftovers.staging(workspace, now + 2 * leftovers.STAGING_SECONDS).ok
    # It was only looked at.
    assert (workspace.root / "artifacts" / ".model-x1y2z3").exists()
    assert leftovers.staging(workspace, now + 2 * leftovers.STAGING_SECONDS).ok is False


def test_the_platform(workspace: Workspace) -> None:
    record = workspace.state / "platform.json"
    assert leftovers.platform(workspace).ok is None
    with started("-c", LISTENS, "127.0.0.1") as (process, _):
        living = Process.of(process.pid)
        known = {"folder": folder_id(workspace), "root": str(workspace.root), "prefect": "http://x/api"}
        Platform(supervisor=living, parts={"worker": living}, mlflow="http://x", **known).write(workspace)
        assert leftovers.platform(workspace).ok
        another = living.model_copy(update={"ticks": living.ticks - 100})
        Platform(supervisor=another, parts={"worker": living}, mlflow="http://x", **known).write(workspace)
        wrong = found([leftovers.platform(workspace)])
        assert wrong.ok is False and "supervisor ended" in wrong.words and "ganflow down" in wrong.remedy
    for damaged in ("{", "[]", '{"supervisor": null}'):
        record.write_text(damaged)
        assert found([leftovers.platform(workspace)]).ok is False


# --- what must answer ---


def test_servers() -> None:
    with started("-c", LISTENS, "127.0.0.1") as (_, port):
        named = {
            "RAY_ADDRESS": f"127.0.0.1:{port}",
            "PREFECT_API_URL": f"http://a:hush@127.0.0.1:{port}/api",
            "MLFLOW_TRACKING_URI": "sqlite:////tmp/mlflow.db",
        }
        assert [each.ok for each in reachability.servers(named)] == [True, True, True]
        assert "hush" not in str(list(reachability.servers(named)))
    wrong = list(reachability.servers(named))
    assert [each.ok for each in wrong] == [False, False, True]
    assert "unset RAY_ADDRESS" in wrong[0].remedy and "hush" not in str(wrong)
    assert {each.ok for each in reachability.servers({})} == {None}


def test_folders_and_buckets(workspace: Workspace, tmp_path: Path) -> None:
    def of(name: str, **environment: str) -> Diagnosis:
        return found(each for each in reachability.places(workspace, environment) if name in each.words)

    assert {each.ok for each in reachability.places(workspace, {})} == {None}
    workspace.params.write_text(f"train: {{storage: {tmp_path}}}\nretrain: {{inbox: new}}")
    assert of("train.storage").ok
    assert of("retrain.inbox").ok is False
    (workspace.root / "new").mkdir()
    assert of("retrain.inbox").ok
    workspace.params.write_text("train: {storage: s3://bucket/prefix}")
    with started("-c", LISTENS, "127.0.0.1") as (_, port):
        assert of("train.storage", AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}").ok
    assert of("train.storage", AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}").ok is False
    workspace.params.write_text("train: {imgaes: 3}")
    assert "did you mean images" in of("imgaes").words


@pytest.mark.parametrize("file", ["config", "config.local"])
def test_the_remote_of_dvc(workspace: Workspace, tmp_path: Path, file: str) -> None:
    def of() -> Diagnosis:
        return found(each for each in reachability.places(workspace, {}) if "DVC" in each.words)

    assert of().ok is None
    # As `dvc init` and `dvc remote add -d` write it, one folder up.
    subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=tmp_path, env=environment(), check=True)
    local = ["--local"] if file == "config.local" else []
    add = ["dvc", "remote", "add", *local, "-d", "storage", str(tmp_path / "remote")]
    subprocess.run(add, cwd=tmp_path, env=environment(), check=True, stdout=subprocess.DEVNULL)
    assert of().ok is False
    (tmp_path / "remote").mkdir()
    assert of().ok


# --- the command ---


def test_the_command(workspace: Workspace, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"http://me:hush@127.0.0.1:{unused.getsockname()[1]}/api"
    before = sorted(workspace.root.rglob("*"))
    result = ganflow(workspace.root, "doctor", PREFECT_API_URL=address)
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(
        r"^warning  servers +PREFECT_API_URL = http://127.0.0.1:\d+/api does not answer", result.stdout, re.M
    )
    assert "start that server, or unset PREFECT_API_URL" in result.stdout
    assert "hush" not in result.stdout + result.stderr
    described = ganflow(workspace.root, "doctor", "--json", DVC_SITE_CACHE_DIR=str(tmp_path))
    listed = json.loads(described.stdout)
    assert described.returncode == int(any(each["ok"] is False for each in listed))
    assert {each["check"] for each in listed} >= {"advisories", "disk", "clock", "servers", "staging", "secrets"}
    assert {each["check"]: each["ok"] for each in listed}["DVC's cache"] is True
    # It only looks.
    assert sorted(workspace.root.rglob("*")) == before


def test_it_starts_quickly(make_workspace: Callable[..., Path]) -> None:
    code = (
        "import sys; from flows.cli.main import app; app(['doctor', '--json'], standalone_mode=False);"
        "print([m for m in ('torch', 'ray', 'mlflow', 'prefect', 'dvc', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=make_workspace(),
        capture_output=True,
        text=True,
        env=environment(PYTHONPATH=str(PROJECT)),
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("address", ["http://[::1", "http://[::1/api", "http://\u2100.example/api"])
def test_an_address_that_is_none(address: str) -> None:
    (found,) = exposure.authentication({"PREFECT_API_URL": address})
    assert found.ok is False and "is no address" in found.words
    assert {each.ok for each in guards.guards([], {"PREFECT_API_URL": address})} <= {None}
