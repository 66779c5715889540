"""Faults that a training survives: what each costs in seconds until it trains again, and in images trained twice.

python -m benchmarks.faults [--only NAME] [--list]

Each fault strikes a real training in processes of its own, past its second checkpoint. `recovery_seconds` is from the
fault, or from the same command given again, to the first point of the curves that is trained anew; `images_again` is
how many images had been trained beyond the checkpoint that it went on from. Where bits must not change, the model is
compared with that of an undisturbed run. Prints one JSON line for each fault; the tests run the same.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
DIGITS = 2_000
PARAMS = """
preprocess: {resolution: 28}
train:
  network: {name: dcgan, generator_width: 32, discriminator_width: 16}
  images: %d
  log_every: 512
  checkpoint_every: 4096
evaluate: {samples: 500, copy_checks: 50}
postprocess: {images: 20, interpolation_frames: 0}
"""
IMAGES = 40_960
QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "DVC_NO_ANALYTICS": "1"}
NAMED = ("RAY_ADDRESS", "PREFECT_API_URL", "MLFLOW_TRACKING_URI")

NODE = [str(BIN / "ray"), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]

Found = dict[str, Any]


def workspace(root: Path, images: int = IMAGES) -> Path:
    """With the first digits, preprocessed."""
    (root / "data").mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS % images)
    for name, header, size in (("images-idx3-ubyte", 16, 28 * 28), ("labels-idx1-ubyte", 8, 1)):
        whole = gzip.decompress((PROJECT / "data" / f"{name}.gz").read_bytes())
        fewer = whole[:4] + DIGITS.to_bytes(4, "big") + whole[8:header] + whole[header : header + DIGITS * size]
        (root / "data" / f"{name}.idx").write_bytes(fewer)
    Run(root, "preprocess").finished()
    return root


class Run:
    """One command of ganflow at work, seen through what it writes."""

    def __init__(self, root: Path, *arguments: str, **variables: str) -> None:
        self.root = root
        self.began = time.monotonic()
        environment = {name: value for name, value in os.environ.items() if name not in NAMED} | QUIET | variables
        self._out = (root / "out.txt").open("w+")
        self.process = subprocess.Popen(
            [str(BIN / "ganflow"), *arguments],
            cwd=root,
            env=environment,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A test that runs in the background has inherited deafness to Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )
        self._tree = psutil.Process(self.process.pid)

    @property
    def output(self) -> str:
        return (self.root / "out.txt").read_text()

    @property
    def folder(self) -> Path:
        return next((self.root / ".ganflow" / "training").glob("*/checkpoints"), Path("?/?")).parent

    def images(self) -> int:
        """How far the curves go."""
        try:
            lines = (self.folder / "progress.jsonl").read_text().splitlines()
        except OSError:
            return 0
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        return max((int(row.get("images", 0)) for row in rows), default=0)

    def checkpoints(self) -> list[int]:
        return sorted(int(p.name) for p in self.folder.glob("checkpoints/*") if p.name.isdigit())

    def until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.output}"
            assert time.monotonic() < deadline, f"waited {seconds} s: {self.output}"
            time.sleep(0.02)

    def trained(self, checkpoints: int = 2) -> Run:
        """Itself, once it has so many checkpoints, and has gone on a little."""
        self.until(lambda: len(self.checkpoints()) >= checkpoints and self.images() > self.checkpoints()[-1] + 1024)
        return self

    def recovered(self, since: float, before: int) -> Found:
        """Wait for the first point that is trained anew; what that took, and how much is trained again."""
        newest = self.checkpoints()[-1]
        # Curves begin anew with those of the checkpoint.
        self.until(lambda: self.images() == newest, 180)
        self.until(lambda: self.images() > newest, 180)
        return {"recovery_seconds": round(time.monotonic() - since, 1), "images_again": before - newest}

    def workers(self) -> list[psutil.Process]:
        found = []
        for each in self._tree.children(recursive=True):
            with suppress(psutil.Error):
                if "RayTrainWorker" in " ".join(each.cmdline()):
                    found.append(each)
        return found

    def finished(self, seconds: float = 400) -> str:
        code = self.process.wait(seconds)
        assert code == 0, self.output
        return self.output

    def kill_everything(self) -> None:
        """As a power cut does."""
        for each in [self._tree, *self._tree.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()


def model_hash(root: Path) -> str:
    """Of the published networks and the curves, without what a fault may change."""
    digest = hashlib.sha256()
    for name in ("generator.safetensors", "discriminator.safetensors", "history.csv"):
        digest.update((root / "artifacts" / "model" / name).read_bytes())
    return digest.hexdigest()


def undisturbed(folder: Path, workers: str = "auto") -> str:
    """The hash of the model that the same training makes without a fault."""
    root = workspace(folder / f"undisturbed-{workers}")
    Run(root, "train", "--set", f"train.workers={workers}").finished()
    return model_hash(root)


# --- the faults ---


def worker_killed(folder: Path, workers: str = "auto") -> Found:
    run = Run(workspace(folder / "w"), "train", "--set", f"train.workers={workers}").trained()
    before, since = run.images(), time.monotonic()
    run.workers()[-1].kill()
    found = run.recovered(since, before)
    run.finished()
    return found | {"model": model_hash(run.root)}


def worker_frozen(folder: Path, workers: str = "auto") -> Found:
    run = Run(workspace(folder / "w"), "train", "--set", f"train.workers={workers}").trained()
    before, since = run.images(), time.monotonic()
    run.workers()[-1].suspend()
    found = run.recovered(since, before)
    run.finished()
    return found | {"model": model_hash(run.root)}


def driver_killed(folder: Path) -> Found:
    """The same command again."""
    run = Run(workspace(folder / "w"), "train").trained()
    before = run.images()
    run.process.kill()
    run.process.wait()
    again = Run(run.root, "train")
    found = again.recovered(again.began, before)
    again.finished()
    return found | {"model": model_hash(run.root)}


def power_cut(folder: Path) -> Found:
    run = Run(workspace(folder / "w"), "train").trained()
    before = run.images()
    run.kill_everything()
    again = Run(run.root, "train")
    found = again.recovered(again.began, before)
    again.finished()
    return found | {"model": model_hash(run.root)}


def power_cuts(folder: Path, workers: str) -> Found:
    """Ten at random instants of one training, two of them in its starts; the log says each time where it goes on."""
    instants, root, images = random.Random(0), workspace(folder / "w"), []
    for cut in range(10):
        run = Run(root, "train", "--set", f"train.workers={workers}")
        kept = run.checkpoints()
        if cut % 5 == 2:
            time.sleep(instants.uniform(1, 12))
        else:
            began = kept[-1] if kept else 0
            run.until(lambda run=run, began=began: run.images() > began)
            assert not kept or f"goes on at image {kept[-1]:,}" in run.output, run.output
            time.sleep(instants.uniform(0, 3.5))
        images.append(run.images())
        run.kill_everything()
        # So that the next one's own is seen.
        (run.folder / "progress.jsonl").unlink(missing_ok=True)
    Run(root, "train", "--set", f"train.workers={workers}").finished()
    return {"images_at_cuts": images, "images_again": 0, "model": model_hash(root)}


def prefect_killed(folder: Path) -> Found:
    """Prefect's temporary server dies: the training goes on, and the same command completes the rest."""
    run = Run(workspace(folder / "w"), "run").trained()
    servers = []
    for each in run._tree.children(recursive=True):
        with suppress(psutil.Error):
            if "prefect.server" in " ".join(each.cmdline()):
                servers.append(each)
    assert servers, "there is no server of Prefect"
    before, since = run.images(), time.monotonic()
    for server in servers:
        server.kill()
    run.until(lambda: run.images() > before)
    found = {"recovery_seconds": round(time.monotonic() - since, 1), "images_again": 0}
    code = run.process.wait(400)
    if code:
        assert "Traceback" not in run.output, run.output
        again = Run(run.root, "run").finished()
        assert "training goes on" not in again
    return found | {"model": model_hash(run.root), "same_command_needed": bool(code)}


def mlflow_gone(folder: Path) -> Found:
    """MLflow's server dies, and comes back while the training is still at work: every point is there once."""
    root = workspace(folder / "w", 2 * IMAGES)
    with _free_port() as port:
        database = f"sqlite:///{folder}/server.db"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", database, "--artifacts-destination", str(folder / "files"), "--workers", "1"]
    server = _server(command, port, folder)
    run = Run(root, "train", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}").trained()
    before, since = run.images(), time.monotonic()
    _end(server)
    run.until(lambda: run.images() > before)
    gone = time.monotonic() - since
    time.sleep(8)
    server = _server(command, port, folder)
    run.finished()
    _end(server)
    assert "training goes on" in run.output, run.output
    with closing(sqlite3.connect(folder / "server.db")) as connection:
        steps = [row[0] for row in connection.execute("SELECT step FROM metrics WHERE key = 'generator_loss'")]
    assert sorted(steps) == list(range(512, 2 * IMAGES + 1, 512)), (len(steps), run.output)
    return {"recovery_seconds": round(gone, 1), "images_again": 0, "points": len(steps)}


def _stopped(folder: Path, which: signal.Signals) -> Found:
    run = Run(workspace(folder / "w"), "train").trained()
    before, since = run.images(), time.monotonic()
    children = run._tree.children(recursive=True)
    run.process.send_signal(which)
    code = run.process.wait(60)
    stopped = time.monotonic() - since
    assert code == 130, run.output
    assert "Traceback" not in run.output, run.output
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, alive
    kept = run.checkpoints()[-1]
    assert kept >= before, "nothing is trained again after an orderly end"
    again = Run(run.root, "train")
    again.finished()
    assert f"goes on at image {kept:,}" in again.output
    return {"stop_seconds": round(stopped, 1), "images_again": 0, "model": model_hash(run.root)}


def ctrl_c(folder: Path) -> Found:
    return _stopped(folder, signal.SIGINT)


def sigterm(folder: Path) -> Found:
    return _stopped(folder, signal.SIGTERM)


def disk_full(folder: Path) -> Found:
    """The disk fills up while checkpoints are written; the same command goes on when there is space."""
    root = folder / "disk"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(root)], check=True)
    try:
        run = Run(workspace(root / "w"), "train").trained()
        with suppress(OSError), (root / "filler").open("wb") as filler:
            while True:
                filler.write(bytes(2**16))
                filler.flush()
        code = run.process.wait(120)
        assert code == 2, (code, run.output)
        assert "Traceback" not in run.output, run.output
        assert "no space left" in run.output, run.output
        (root / "filler").unlink()
        kept = run.checkpoints()[-1]
        again = Run(run.root, "train")
        again.finished()
        assert f"goes on at image {kept:,}" in again.output
        return {"images_again": 0, "model": model_hash(run.root)}
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


def clock_set_back(folder: Path) -> Found:
    """By an hour, for every process of a run at once, and again while nothing runs."""
    library, back = folder / "clock.so", folder / "back"
    source = str(Path(__file__).with_name("clock.c"))
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), source, "-ldl"], check=True)
    clock = {"LD_PRELOAD": str(library), "CLOCK_SET_BACK": str(back)}
    run = Run(workspace(folder / "w"), "train", **clock).trained()
    before, since = run.images(), time.monotonic()
    back.touch()
    run.until(lambda: run.images() > before + 4096)
    found = {"recovery_seconds": round(time.monotonic() - since, 1), "images_again": 0}
    run.kill_everything()
    Run(run.root, "train", **clock).finished()
    return found | {"model": model_hash(run.root)}


def node_comes(folder: Path) -> Found:
    """A machine joins while a range of workers is at work: the training goes on with one more."""
    with _cluster(folder, 1) as (address, nodes):
        wanted = "{min: 1, max: 2}"
        run = Run(workspace(folder / "w", 8 * IMAGES), "train", "--set", f"train.workers={wanted}", **address).trained()
        since, port = time.monotonic(), int(address["RAY_ADDRESS"].rpartition(":")[2])
        nodes.append(_server([*NODE, f"--address={address['RAY_ADDRESS']}"], port, folder, **address))
        run.until(lambda: _works(nodes[-1]), 180)
        newest = run.checkpoints()[-1]
        run.until(lambda: run.images() > newest, 120)
        took = round(time.monotonic() - since, 1)
        run.finished()
        execution = json.loads((run.root / "artifacts" / "model" / "model.json").read_text())["execution"]
        return {"recovery_seconds": took, "workers": execution["workers"], "images_again": 0}


def node_removed(folder: Path, spare: bool) -> Found:
    """A machine of the cluster disappears: another takes its place, or the training goes on with fewer workers."""
    with _cluster(folder, 3 if spare else 2) as (address, nodes):
        wanted = "2" if spare else "{min: 1, max: 2}"
        run = Run(workspace(folder / "w", 2 * IMAGES), "train", "--set", f"train.workers={wanted}", **address)
        run.trained()
        before, since = run.images(), time.monotonic()
        # The node of the last worker; the first has the cluster's head.
        worker = next(n for n in nodes[1:] if _works(n))
        _end(worker)
        found = run.recovered(since, before)
        run.finished()
        execution = json.loads((run.root / "artifacts" / "model" / "model.json").read_text())["execution"]
        return found | {"workers": execution["workers"]}


def node_removed_with_spare(folder: Path) -> Found:
    return node_removed(folder, spare=True)


def node_removed_without_spare(folder: Path) -> Found:
    return node_removed(folder, spare=False)


FAULTS: Mapping[str, Callable[[Path], Found]] = {
    "worker killed": worker_killed,
    "worker killed, of two": lambda folder: worker_killed(folder, "2"),
    "worker frozen": worker_frozen,
    "worker frozen, of two": lambda folder: worker_frozen(folder, "2"),
    "driver killed": driver_killed,
    "power cut": power_cut,
    "ten power cuts": lambda folder: power_cuts(folder, "auto"),
    "ten power cuts, two workers": lambda folder: power_cuts(folder, "2"),
    "node removed, another there": node_removed_with_spare,
    "node removed, none left": node_removed_without_spare,
    "node comes": node_comes,
    "clock set back": clock_set_back,
    "Prefect's server killed": prefect_killed,
    "MLflow's server gone for a while": mlflow_gone,
    "Ctrl-C": ctrl_c,
    "SIGTERM": sigterm,
    "disk full": disk_full,
}


# --- servers and clusters ---


@contextmanager
def _free_port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield port


def _server(command: list[str], port: int, folder: Path, **variables: str) -> subprocess.Popen[bytes]:
    """`command`, once something answers at `port`."""
    quiet = subprocess.DEVNULL
    environment = {name: value for name, value in os.environ.items() if name not in NAMED} | QUIET | variables
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)
    deadline = time.monotonic() + 90
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


@contextmanager
def _cluster(folder: Path, count: int) -> Iterator[tuple[dict[str, str], list[subprocess.Popen[bytes]]]]:
    """A Ray cluster of nodes with one processor each, all on this machine."""
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "benchmarks-faults",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
    }
    with _free_port() as port:
        address = f"127.0.0.1:{port}"
    nodes = [_server([*NODE, "--head", f"--port={port}", "--include-dashboard=false"], port, folder, **variables)]
    try:
        for _ in range(count - 1):
            nodes.append(_server([*NODE, f"--address={address}"], port, folder, **variables))
        script = f"import ray; ray.init('{address}', log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
        command, environment = [sys.executable, "-c", script], os.environ | variables
        while True:
            told = subprocess.run(command, env=environment, capture_output=True, text=True).stdout.split()
            if told[-1:] == [str(count)]:
                break
        yield variables | {"RAY_ADDRESS": address}, nodes
    finally:
        for node in nodes:
            with suppress(psutil.NoSuchProcess):
                _end(node)


def _works(node: subprocess.Popen[bytes]) -> bool:
    for child in psutil.Process(node.pid).children(recursive=True):
        with suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(child.cmdline()):
                return True
    return False


def workers_of(fault: str) -> str:
    """How many workers the training has that this fault strikes."""
    return "2" if "two" in fault else "auto"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAULTS)
    given = parser.parse_args()
    expected: dict[str, str] = {}
    for name in [given.only] if given.only else FAULTS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            workers = workers_of(name)
            try:
                found = FAULTS[name](folder)
                if "model" in found:
                    if workers not in expected:
                        expected[workers] = undisturbed(folder, workers)
                    found["same_bits"] = found.pop("model") == expected[workers]
            except AssertionError as error:
                found = {"failed": str(error)[-2000:]}
        print(json.dumps({"fault": name, **found}), flush=True)


if __name__ == "__main__":
    main()
