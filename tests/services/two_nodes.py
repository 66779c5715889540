"""A Ray cluster of two nodes that share nothing but a network, on one machine.

Each node has a network, a hostname, processes and mounts of its own. Neither sees a folder from which the project can
be imported, and the second has an empty `/tmp`, so it sees none of the first's files. The first node's `/tmp` is this
machine's: a driver talks to its node through sockets there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import environment
from tests.harness.clusters import free_port

BIN = Path(sys.executable).parent
NAMES = ("first", "second")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
UNSHARE = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
START_TIMEOUT = 240.0

# Process 1 of a node: all others are killed when it ends, which it does when its standard input is closed, whoever
# closed it. It says when its namespaces are there, and goes on when they are connected.
NODE = """
echo ready; read connected
hostname "$NAME"; ip link set lo up; ip addr add "$ADDRESS/24" dev eth0; ip link set eth0 up
mount -t tmpfs none /mnt; mkdir /mnt/environment; mount --rbind "$ENVIRONMENT" /mnt/environment
echo "127.0.0.1 localhost
$NAMES" > /mnt/hosts; mount --bind /mnt/hosts /etc/hosts
for folder in $HIDDEN; do mkdir -p "$folder"; mount -t tmpfs none "$folder"; done
mkdir -p "$ENVIRONMENT"; mount --rbind /mnt/environment "$ENVIRONMENT"
"$@" >&2 &
read closed || true
"""


@dataclass
class TwoNodes:
    """A running cluster. `isolated` is False where the system lacks namespaces: both nodes then share this machine."""

    isolated: bool
    addresses: tuple[str, str]
    variables: dict[str, str]
    processes: list[subprocess.Popen[bytes]]
    logs: Path

    def command(self, *command: str | Path) -> list[str]:
        """`command` with this machine's files and the first node's network."""
        there = ["nsenter", f"--net=/proc/{self.processes[0].pid}/ns/net"] if self.isolated else []
        return [*there, *map(str, command)]

    def run(
        self, *command: str | Path, cwd: Path, timeout: float = 150, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` on the first node as a user of the cluster does."""
        variables = environment(**self.variables, **extra)
        return subprocess.run(
            self.command(*command), cwd=cwd, env=variables, capture_output=True, text=True, timeout=timeout
        )

    def kill(self, node: int) -> None:
        """Let a node disappear at once with all its processes."""
        process = self.processes[node]
        if self.isolated:
            assert process.stdin is not None
            process.stdin.close()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def can_isolate() -> bool:
    """Whether this system lets us make a node with a network of its own."""
    if not all(map(shutil.which, ("ip", "unshare", "nsenter", "mount"))):
        return False
    probe = "mount -t tmpfs none /mnt && ip link add eth0 type veth"
    return subprocess.run([*UNSHARE, "sh", "-ec", probe], capture_output=True).returncode == 0


@contextlib.contextmanager
def start(cpus: int = 1, **on_nodes: str) -> Iterator[TwoNodes]:
    """A cluster with token authentication and `cpus` processors on each node, until the block ends.

    The nodes' environment gets the variables `on_nodes`, a driver's does not.
    """
    # Sockets lie in there, whose paths may not be long.
    temporary = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True)
    with temporary as folder, contextlib.ExitStack() as networks:
        isolated = can_isolate()
        addresses = ADDRESSES if isolated else ("127.0.0.2", "127.0.0.3")
        port = 6379 if isolated else free_port()
        variables = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_ADDRESS": f"{addresses[0]}:{port}",
        }
        cluster = TwoNodes(isolated, addresses, variables, [], Path(folder))
        roles = (["--head", f"--port={port}", "--include-dashboard=false"], [f"--address={variables['RAY_ADDRESS']}"])
        common = [f"--num-cpus={cpus}", f"--temp-dir={folder}", "--object-store-memory=200000000", "--block"]
        try:
            for node, role in enumerate(roles):
                ray = [str(BIN / "ray"), "start", *role, f"--node-ip-address={addresses[node]}", *common]
                cluster.processes.append(_launch(ray, node, cluster, on_nodes))
            if isolated:
                _connect(cluster.processes)
                # Kept open: the cable's end at the other node, and so its address, would go with a killed node.
                for process in cluster.processes:
                    networks.enter_context(Path(f"/proc/{process.pid}/ns/net").open("rb"))
            _wait_for_nodes(cluster)
            yield cluster
        finally:
            for node in range(len(cluster.processes)):
                cluster.kill(node)


def _launch(ray: Sequence[str], node: int, cluster: TwoNodes, on_nodes: Mapping[str, str]) -> subprocess.Popen[bytes]:
    variables = environment(**cluster.variables, **on_nodes)
    del variables["RAY_ADDRESS"]
    variables.pop("PYTHONPATH", None)
    if not cluster.isolated:
        return _start(["sh", "-c", 'exec "$@" >&2', "node", *ray], node, cluster, variables)
    hidden = {str(Path(entry).resolve()) for entry in sys.path if (Path(entry) / "components").is_dir()}
    if node:
        hidden |= {"/tmp", "/dev/shm", tempfile.gettempdir()}
    script = {
        "NAME": NAMES[node],
        "ADDRESS": cluster.addresses[node],
        "NAMES": "\n".join(f"{address} {name}" for address, name in zip(ADDRESSES, NAMES, strict=True)),
        "ENVIRONMENT": sys.prefix,
        "HIDDEN": " ".join(sorted(hidden)),
    }
    return _start([*UNSHARE, "sh", "-ec", NODE, "node", *ray], node, cluster, {**variables, **script})


def _start(
    command: Sequence[str], node: int, cluster: TwoNodes, variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    with (cluster.logs / f"{NAMES[node]}.log").open("wb") as log:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd="/", env=variables, stdin=pipe, stdout=pipe, stderr=log, start_new_session=True
        )


def _connect(nodes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Lay a cable between two nodes."""
    for node in nodes:
        assert node.stdout is not None
        assert node.stdout.readline() == b"ready\n"
    first, second = (str(node.pid) for node in nodes)
    cable = ["type", "veth", "peer", "name", "eth0", "netns", second]
    subprocess.run(["ip", "link", "add", "eth0", "netns", first, *cable], check=True)
    for node in nodes:
        assert node.stdin is not None
        node.stdin.write(b"connected\n")
        node.stdin.flush()


def _wait_for_nodes(cluster: TwoNodes) -> None:
    script = "import ray; ray.init(log_to_driver=False); print(sum(node['Alive'] for node in ray.nodes()))"
    deadline = time.monotonic() + START_TIMEOUT
    while (seen := cluster.run(sys.executable, "-c", script, cwd=cluster.logs)).stdout.strip() != "2":
        logs = [path.read_text() for path in cluster.logs.glob("*.log")]
        assert time.monotonic() < deadline, "\n".join([seen.stdout, seen.stderr, *logs])
