"""Faults that a training survives: each strikes a real training past its second checkpoint.

A fault is a function of an empty folder, which returns what it cost. `recovery_seconds` is from the fault, or from the
same command given again, to the first point of the curves that is trained anew; `images_again` is how many images had
been trained beyond the checkpoint that it went on from. Where bits must not change, `model` is the hash of the model,
to be compared with that of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

import psutil

from tests.harness.clusters import NODE, cluster, end, free_port, start_server, works
from tests.harness.trainings import IMAGES, Found, Run, model_hash, workspace


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
    for each in run.tree.children(recursive=True):
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
    port = free_port()
    database = f"sqlite:///{folder}/server.db"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(folder / "files"), "--workers", "1"]
    server = start_server(command, port, folder)
    run = Run(root, "train", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}").trained()
    before, since = run.images(), time.monotonic()
    end(server)
    run.until(lambda: run.images() > before)
    gone = time.monotonic() - since
    time.sleep(8)
    server = start_server(command, port, folder)
    run.finished()
    end(server)
    assert "training goes on" in run.output, run.output
    with closing(sqlite3.connect(folder / "server.db")) as connection:
        steps = [row[0] for row in connection.execute("SELECT step FROM metrics WHERE key = 'training/generator_loss'")]
    assert sorted(steps) == list(range(512, 2 * IMAGES + 1, 512)), (len(steps), run.output)
    return {"recovery_seconds": round(gone, 1), "images_again": 0, "points": len(steps)}


def _stopped(folder: Path, which: signal.Signals, group: bool = False) -> Found:
    run = Run(workspace(folder / "w"), "train").trained()
    before, since = run.images(), time.monotonic()
    children = run.tree.children(recursive=True)
    (os.killpg if group else os.kill)(run.process.pid, which)
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


def terminal_closed(folder: Path) -> Found:
    """All processes that were started from it are told, as by the shell that ends."""
    return _stopped(folder, signal.SIGHUP, group=True)


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
    with cluster(folder, 1) as (address, nodes):
        wanted = "{min: 1, max: 2}"
        run = Run(workspace(folder / "w", 8 * IMAGES), "train", "--set", f"train.workers={wanted}", **address).trained()
        since, port = time.monotonic(), int(address["RAY_ADDRESS"].rpartition(":")[2])
        nodes.append(start_server([*NODE, f"--address={address['RAY_ADDRESS']}"], port, folder, **address))
        run.until(lambda: works(nodes[-1]), 180)
        newest = run.checkpoints()[-1]
        run.until(lambda: run.images() > newest, 120)
        took = round(time.monotonic() - since, 1)
        run.finished()
        execution = json.loads((run.root / "artifacts" / "model" / "model.json").read_text())["execution"]
        return {"recovery_seconds": took, "workers": execution["workers"], "images_again": 0}


def node_removed(folder: Path, spare: bool) -> Found:
    """A machine of the cluster disappears: another takes its place, or the training goes on with fewer workers."""
    with cluster(folder, 3 if spare else 2) as (address, nodes):
        wanted = "2" if spare else "{min: 1, max: 2}"
        run = Run(workspace(folder / "w", 2 * IMAGES), "train", "--set", f"train.workers={wanted}", **address)
        run.trained()
        before, since = run.images(), time.monotonic()
        # The node of the last worker; the first has the cluster's head.
        worker = next(n for n in nodes[1:] if works(n))
        end(worker)
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
    "terminal closed": terminal_closed,
    "disk full": disk_full,
}


def workers_of(fault: str) -> str:
    """How many workers the training has that this fault strikes."""
    return "2" if "two" in fault else "auto"
