"""Every crash point: each stage's publication is killed at every durable operation in turn, and then run again.

python -m tests.harness.crash_points --template WORKSPACE [--every K] [--only NAME], in a process started by `loaded`

A library loaded before all others (`crash_points.c`, compiled here) counts opens for writing, writes, syncs, renames,
removals and commits below the workspace, and kills the process at the n-th. For each n a copy of one prepared workspace
is worked on by a process forked from one that has imported everything. After the kill readers must find what was there
before or what was to come, whole; the same step run again must end where the undisturbed one does, with exactly one
model version for its key and nothing left behind. Prints one JSON line for each step.
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

PARAMS = """
preprocess: {resolution: 28}
train:
  network: {name: dcgan, generator_width: 16, discriminator_width: 16}
  images: 3072
  log_every: 512
  checkpoint_every: 1024
evaluate: {samples: 200, copy_checks: 20}
postprocess: {images: 12, interpolation_frames: 3}
"""
IMAGES = 300
PROJECT = Path(__file__).resolve().parents[2]
STAGES = ("preprocess", "train", "evaluate", "postprocess", "register")


class Step(NamedTuple):
    """What is done, how the workspace looks before it, and what must hold of it afterwards, crashed or not."""

    name: str
    prepare: Callable[[Path], None]
    run: Callable[[Path], object]
    # Raises where a reader would find half of something; returns what must be equal in the end.
    look: Callable[[Path], object]


def prepared(root: Path) -> Path:
    """A workspace with 300 digits, a finished training with its checkpoints, and all that follows from it."""
    (root / "data").mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS)
    for name, header, size in (("images-idx3-ubyte", 16, 28 * 28), ("labels-idx1-ubyte", 8, 1)):
        whole = gzip.decompress((PROJECT / "data" / f"{name}.gz").read_bytes())
        fewer = whole[:4] + IMAGES.to_bytes(4, "big") + whole[8:header] + whole[header : header + IMAGES * size]
        (root / "data" / f"{name}.idx").write_bytes(fewer)
    for stage in STAGES:
        command = [sys.executable, "-c", "from flows.cli.main import main; main()", stage]
        subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)
    return root


def steps() -> Iterator[Step]:
    """Those that publish something, with all that they import."""
    import components.postprocess
    import components.preprocess
    import components.register
    import components.train  # noqa: F401
    from components.services.tracking import connection, registry
    from components.training.checkpoints import TrainingFolder
    from components.workspace.artifacts import Artifact, Dataset, Gallery, Model, Registration
    from components.workspace.params import Params
    from components.workspace.workspace import Workspace
    from flows.runner import run_stage

    def params(root: Path) -> Params:
        return Params.load(root / "params.yaml")

    def artifact(kind: type[Artifact], name: str) -> Callable[[Path], object]:
        def look(root: Path) -> object:
            folder: Path = getattr(Workspace(root), name)
            return kind.load(folder).verified().content if folder.exists() else None

        return look

    def removed(name: str) -> Callable[[Path], None]:
        return lambda root: shutil.rmtree(getattr(Workspace(root), name))

    def make_dataset(root: Path) -> object:
        return run_stage("preprocess", params(root), Workspace(root))

    yield Step("dataset", removed("dataset"), make_dataset, artifact(Dataset, "dataset"))

    def other_resolution(root: Path) -> None:
        path = root / "params.yaml"
        path.write_text(path.read_text().replace("resolution: 28", "resolution: 16"))

    yield Step("dataset in place of another", other_resolution, make_dataset, artifact(Dataset, "dataset"))

    def training(root: Path) -> TrainingFolder:
        (folder,) = (root / ".ganflow" / "training").glob("*/checkpoints")
        return TrainingFolder(folder.parent)

    def without_last(root: Path) -> None:
        run = training(root)
        last = run.newest()
        assert last is not None
        (root / "last").mkdir()
        (run.checkpoints / f"{last.state.images:012d}").replace(root / "last" / f"{last.state.images:012d}")

    def save(root: Path) -> object:
        run = training(root)
        saved = TrainingFolder(root)
        saved.checkpoints = root / "last"
        last = saved.newest()
        assert last is not None
        run.start_progress(last.history[:-1])
        run.save(last)
        return None

    def checkpoints(root: Path) -> object:
        run = training(root)
        assert not list(run.damaged())
        newest = run.newest()
        assert newest is not None
        return newest.state.images, newest.history

    yield Step("checkpoint", without_last, save, checkpoints)

    def make_model(root: Path) -> object:
        return run_stage("train", params(root), Workspace(root))

    yield Step("model", removed("model"), make_model, artifact(Model, "model"))

    def make_gallery(root: Path) -> object:
        return run_stage("postprocess", params(root), Workspace(root))

    yield Step("gallery", removed("gallery"), make_gallery, artifact(Gallery, "gallery"))

    def unregistered(root: Path) -> None:
        shutil.rmtree(root / "mlruns")
        workspace = Workspace(root)
        # An empty database: its making is MLflow's own.
        connection.open_client(workspace).search_experiments()

    def make_registration(root: Path) -> object:
        return run_stage("register", params(root), Workspace(root))

    def registered(root: Path) -> object:
        """Versions with their aliases and tags; each of them complete."""
        workspace = Workspace(root)
        found = list(registry.checked_versions(workspace))
        assert all(version.wrong is None for version in found), found
        assert len(found) <= 1, found
        aliases = registry.aliases("ganflow", 1, workspace)
        registration = artifact(Registration, "registration")(root)
        # An alias is set when all that it stands for is there.
        assert not aliases or (
            found and registry.FILES_TAG in connection.open_client(workspace).get_model_version("ganflow", "1").tags
        )
        return registration, found, aliases

    yield Step("registration", unregistered, make_registration, registered)


def tried(step: Step, template: Path, scratch: Path, every: int) -> dict[str, object]:
    """Kill `step` at every `every`-th of its points; how many there are, and what failed.

    Raises:
        RuntimeError: the step fails undisturbed.
    """
    from components.workspace.workspace import Workspace

    shim = ctypes.CDLL(None)
    shim.crash_points_arm.argtypes = [ctypes.c_char_p, ctypes.c_long]
    shim.crash_points_count.restype = ctypes.c_long
    began = time.perf_counter()
    ready = scratch / "ready"
    shutil.copytree(template, ready)
    # In the place that it will have, which MLflow's database knows.
    root = scratch / "work"
    ready.replace(root)
    in_child(lambda: step.prepare(root))
    root.replace(ready)

    def work(at: int) -> object:
        shim.crash_points_arm(os.fsencode(root), at)
        with Workspace(root).exclusive():
            step.run(root)
        points = shim.crash_points_count()
        shim.crash_points_arm(b"", 0)
        return [points, _plain(step.look(root)), leftovers(root)]

    def fresh() -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(ready, root)

    fresh()
    before = in_child(lambda: _plain(step.look(root)))
    undisturbed = in_child(lambda: work(0))
    if not isinstance(before, Answer) or not isinstance(undisturbed, Answer):
        raise RuntimeError(f"{step.name} fails undisturbed: {before} {undisturbed}")
    points, end, left = undisturbed.value
    failures: list[str] = [f"undisturbed: leaves {left}"] if left else []
    tried_points = range(1, points + 1, every)
    for at in tried_points:
        fresh()
        if not isinstance(died := in_child(lambda at=at: work(at)), int) or died != -signal.SIGKILL:
            # Threads may share the operations out in another way: this one had fewer.
            if isinstance(died, Answer) and died.value[1] == end:
                continue
            failures.append(f"{at}: did not die: {died}")
            continue
        seen = in_child(lambda: _plain(step.look(root)))
        if not isinstance(seen, Answer):
            failures.append(f"{at}: a reader finds half of something: {seen}")
            continue
        again = in_child(lambda: work(0))
        if not isinstance(again, Answer) or again.value[1:] != [end, []]:
            failures.append(f"{at}: ends in {again} rather than {end}")
    shutil.rmtree(root)
    shutil.rmtree(ready)
    return {
        "step": step.name,
        "points": points,
        "tried": len(tried_points),
        "failed": len(failures),
        "failures": failures[:5],
        "seconds": round(time.perf_counter() - began, 1),
    }


class Answer(NamedTuple):
    value: list[object] | object


def in_child(work: Callable[[], object]) -> Answer | str | int:
    """What `work` returns in a forked process, as JSON carries it; its traceback, or the signal that ended it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            told = json.dumps({"value": work()})
        except BaseException:
            told = json.dumps({"error": traceback.format_exc()[-600:]})
        with os.fdopen(writing, "w") as out:
            out.write(told)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return -os.WTERMSIG(status)
    told = json.loads(text)
    return Answer(told["value"]) if "value" in told else str(told["error"])


def leftovers(root: Path) -> list[str]:
    """What a killed process began and nobody finished."""
    begun = [*root.glob("artifacts/.*"), *root.glob("mlruns/.registration-*"), *root.rglob("*.tmp")]
    return [path.relative_to(root).as_posix() for path in begun]


def _plain(value: object) -> object:
    return json.loads(json.dumps(value))


def loaded(arguments: list[str], library: Path, out: TextIO | None = None) -> int:
    """Run this module in a process that has the library loaded, which is made as `library`; its exit code."""
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    quiet = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    environment = os.environ | quiet | {"LD_PRELOAD": str(library)}
    command = [sys.executable, "-m", "tests.harness.crash_points", *arguments]
    return subprocess.run(command, cwd=PROJECT, env=environment, stdout=out).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--template", type=Path, required=True, help="a prepared workspace")
    parser.add_argument("--every", type=int, default=1, help="try each K-th point")
    parser.add_argument("--only", help="one step")
    given = parser.parse_args()
    import mlflow.pyfunc  # noqa: F401 - imported by no child again
    import torch

    # A process that has started threads must not be forked.
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for step in steps():
            if given.only in (None, step.name):
                result = tried(step, given.template, Path(scratch), given.every)
                print(json.dumps(result), flush=True)
                failed += int(str(result["failed"]))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
