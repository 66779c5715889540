"""What commands and records cost in a workspace with thousands of recorded runs.

python -m benchmarks.long_life --runs 10 10000

Makes one small workspace by `ganflow run`, and from it one for each number: what a run leaves (its lines in the ledger
and the journal of champions, its rows in MLflow's database, its folders, the list of its data's files) is written again
under other keys, with galleries of 250 pictures. Then every command runs in it as a user starts it. A table shows the
seconds of the clock and of the processor, and the peak memory of each, the least of `--rounds`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from components.provenance.ledger import Ledger, record
from components.services.tracking import champions
from components.training import begun
from components.workspace.artifacts import Dataset
from components.workspace.journal import Head
from components.workspace.workspace import Workspace

PICTURES = 250
COMMANDS = {
    "run, nothing to do": ["run"],
    "run --dry-run": ["run", "--dry-run"],
    "status": ["status"],
    "register, up to date": ["register"],
    "promote, up to date": ["promote"],
    "generate --n 1": ["generate", "--n", "1"],
    "trace": ["trace", "{picture}"],
    "impact HASH": ["impact", "{source}"],
    "impact FILE": ["impact", "data/images.idx"],
    "card": ["card"],
    "clean": ["clean"],
}
# What only a number that is counted in bytes keeps apart from the next.
_BATCH = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", type=Path, help="a finished workspace of one run, instead of one that is made")
    parser.add_argument("--one", nargs=2, metavar=("WORKSPACE", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    if options.one:
        print(json.dumps(_measured(FUNCTIONS[options.one[1]], Workspace(Path(options.one[0])))))
        return
    with tempfile.TemporaryDirectory() as folder:
        base = options.base or _base(Path(folder) / "base")
        print(f"| {'runs':>6} | {'what':<28} | {'s':>7} | {'CPU s':>7} | {'MB':>6} |\n|---:|---|---:|---:|---:|")
        for runs in options.runs:
            root = Path(folder) / str(runs)
            shutil.copytree(base, root, symlinks=True)
            workspace = Workspace(root)
            repeat(workspace, runs)
            print(f"| {runs:>6,} | ledger on the disk | | | {workspace.ledger.stat().st_size / 1e6:6.0f} |", flush=True)
            for name in FUNCTIONS:
                _row(runs, name, *_in_process(name, root, options.rounds))
            for name, arguments in COMMANDS.items():
                _row(runs, name, *_as_command(arguments, workspace, options.rounds))
            shutil.rmtree(root)


Cost = tuple[float, float, float]


def _row(runs: int, what: str, seconds: float, cpu: float, megabytes: float) -> None:
    print(f"| {runs:>6,} | {what:<28} | {seconds:7.3f} | {cpu:7.3f} | {megabytes:6.0f} |", flush=True)


def _least(found: list[Cost]) -> Cost:
    seconds, cpu, megabytes = zip(*found, strict=True)
    return min(seconds), min(cpu), min(megabytes)


def _base(root: Path) -> Path:
    """Make a workspace of 800 digits by `ganflow run`."""
    # In a process of its own: the peak memory of a process that is started counts what its parent has imported.
    code = "import sys, pathlib; from benchmarks.long_life import write_base; write_base(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(root)], check=True)
    subprocess.run(_command("run"), cwd=root, check=True, stdout=sys.stderr)
    return root


def write_base(root: Path) -> None:
    """Write the parameters and data of a workspace of 800 digits."""
    import gzip

    import numpy as np

    from tests.conftest import SMALL, idx

    data = Path(__file__).parents[1] / "data"
    (root / "data").mkdir(parents=True)
    (root / "params.yaml").write_text(SMALL)
    for name, header, shape in (("images", 16, (28, 28)), ("labels", 8, ())):
        packed = next(data.glob(f"{name}-idx*.gz"))
        values = np.frombuffer(gzip.decompress(packed.read_bytes())[header:], np.uint8).reshape(-1, *shape)
        (root / "data" / f"{name}.idx").write_bytes(idx(values[:800]))


# --- a workspace of many runs ---


def repeat(workspace: Workspace, runs: int) -> None:
    """Write what the run of a workspace left `runs` times more, as of runs before it."""
    Repeated(workspace, runs).write()


class Repeated:
    """The traces of runs before the one that a workspace holds."""

    def __init__(self, workspace: Workspace, runs: int) -> None:
        self._workspace, self._runs = workspace, runs
        self._entries = [entry.model_dump(mode="json") for entry in Ledger(workspace).entries()]
        registration = next(entry for entry in self._entries if entry["kind"] == "registration")
        self._facts: dict[str, Any] = registration["facts"]

    def write(self) -> None:
        """Write all of them."""
        self._ledger()
        self._champions()
        self._database()
        self._folders()

    def _another(self, text: str, run: int) -> str:
        """Return the hash, key or id that stands in the place of `text` in another run."""
        prefix = "m-" if text.startswith("m-") else ""
        digest = hashlib.sha256(f"{text.removeprefix('m-')} {run}".encode()).hexdigest()
        return prefix + digest[: len(text) - len(prefix)]

    def _ledger(self) -> None:
        # Every hash of an entry, but those of parameters and code, is another one in another run.
        known = {entry["key"] for entry in self._entries} | {entry["content"] for entry in self._entries}
        known |= {self._facts["run_id"], self._facts["model_id"]}
        known |= {entry["facts"]["source"] for entry in self._entries if entry["kind"] == "dataset"}
        for entry in self._entries:
            if entry["kind"] == "gallery":
                pictures = entry["facts"]["pictures"]
                entry["facts"]["pictures"] = [pictures[i % len(pictures)] for i in range(PICTURES)]

        def lines() -> Iterator[dict[str, Any]]:
            for run in range(self._runs):
                for entry in self._entries:
                    text = json.dumps(entry)
                    for name in known:
                        text = text.replace(name, self._another(name, run))
                    other = json.loads(text)
                    if other["kind"] in ("registration", "verdict"):
                        number = "version" if other["kind"] == "registration" else "challenger"
                        other["facts"][number] = run + 2
                    if other["kind"] == "gallery":
                        other["facts"]["pictures"] = [
                            {**picture, "seed": seed, "pixels": self._another("0" * 64, run * PICTURES + seed)}
                            for seed, picture in enumerate(other["facts"]["pictures"])
                        ]
                    yield {"entry": other}
            yield from ({"entry": entry} for entry in self._entries)

        ledger = Ledger(self._workspace)
        self._workspace.ledger.with_suffix(".sqlite").unlink(missing_ok=True)
        _write_chain(ledger.journal.path, ledger.journal.witness, lines())

    def _champions(self) -> None:
        journal = champions.journal(self._workspace)
        own = [
            change.model_dump(mode="json", exclude_defaults=True)
            for change in champions.history("ganflow", self._workspace)
        ]
        lines = [
            {**own[0], "version": run + 2, "before": run + 1 if run else None, "state": state}
            for run in range(self._runs)
            for state in ("begun", "done")
        ]
        last = {**own[-1], "before": self._runs + 1}
        _write_chain(journal.path, journal.witness, iter([*lines, {**last, "state": "begun"}, last]))

    def _database(self) -> None:
        run_id, model_id = self._facts["run_id"], self._facts["model_id"]
        with closing(sqlite3.connect(self._workspace.mlruns / "mlflow.db")) as database:
            tables = {
                "runs": ("run_uuid", run_id),
                "tags": ("run_uuid", run_id),
                "params": ("run_uuid", run_id),
                "metrics": ("run_uuid", run_id),
                "latest_metrics": ("run_uuid", run_id),
                "logged_models": ("model_id", model_id),
                "logged_model_params": ("model_id", model_id),
                "logged_model_tags": ("model_id", model_id),
                "model_versions": ("version", 1),
                "model_version_tags": ("version", 1),
            }
            rows = {
                table: database.execute(f"SELECT * FROM {table} WHERE {column} = ?", (value,)).fetchall()
                for table, (column, value) in tables.items()
            }
            columns = {table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")] for table in tables}
            key = self._facts["model_key"]
            for run in range(self._runs):
                others = [(text, self._another(text, run)) for text in (run_id, model_id, key)]
                for table, found in rows.items():
                    made = [
                        [
                            run + 2 if name == "version" else _replaced(value, others)
                            for name, value in zip(columns[table], row, strict=True)
                        ]
                        for row in found
                    ]
                    marks = ", ".join("?" * len(columns[table]))
                    database.executemany(f"INSERT INTO {table} VALUES ({marks})", made)
                if run % _BATCH == 0:
                    database.commit()
            database.commit()

    def _folders(self) -> None:
        workspace, key = self._workspace, self._facts["model_key"]
        source = Dataset.load(workspace.dataset).source
        listed = (workspace.state / "data" / f"{source}.sha256s").read_bytes()
        record = (workspace.state / "training" / key / begun.RECORD).read_bytes()
        ended = [self._another(key, run) for run in range(self._runs)]
        (workspace.state / begun.ENDED).write_text("".join(f"{name}\n" for name in sorted([key, *ended])))
        for run in range(self._runs):
            training = workspace.state / "training" / self._another(key, run)
            for folder in (
                training,
                workspace.mlruns / "artifacts" / self._another(self._facts["run_id"], run) / "artifacts",
                workspace.mlruns / "artifacts" / "models" / self._another(self._facts["model_id"], run) / "artifacts",
            ):
                folder.mkdir(parents=True)
            (training / begun.RECORD).write_bytes(record)
            (training / "progress.jsonl").write_text('{"images": 1024, "generator_loss": 1.0}\n')
            digests = [hashlib.sha256(f"{run} {n}".encode()).digest() for n in range(len(listed) // 32)]
            other = workspace.state / "data" / f"{self._another(source, run)}.sha256s"
            other.write_bytes(b"".join(sorted(digests)))


def _replaced(value: Any, others: list[tuple[str, str]]) -> Any:
    if isinstance(value, str):
        for one, other in others:
            value = value.replace(one, other)
    return value


def _write_chain(path: Path, witness: Path | None, lines: Iterator[dict[str, Any]]) -> None:
    """Write a chained journal at once, without a sync for each line."""
    previous, before, count = None, None, 0
    with path.open("wb") as file:
        for described in lines:
            count += 1
            text = json.dumps({**described, "previous": previous})[:-1].encode()
            before, previous = previous, hashlib.sha256(text).hexdigest()
            file.write(text + f', "hash": "{previous}"}}\n'.encode())
    if witness and previous:
        witness.write_text(Head(lines=count, hash=previous, before=before, settled=True).model_dump_json())


# --- what is measured ---


def _index_again(workspace: Workspace) -> None:
    workspace.ledger.with_suffix(".sqlite").unlink(missing_ok=True)
    Ledger(workspace).named(["none"])


def _nothing_to_record(workspace: Workspace) -> None:
    record(workspace)


def _record_one(workspace: Workspace) -> None:
    """Write the six entries of a run."""
    ledger = Ledger(workspace)
    entries = [*_last_entries(ledger, workspace)]
    stamp = hashlib.sha256(str(time.time_ns()).encode()).hexdigest()
    for entry in entries:
        assert ledger.append(entry.model_copy(update={"content": stamp}))


def _last_entries(ledger: Ledger, workspace: Workspace) -> Iterator[Any]:
    from components.provenance.entries import (
        DatasetEntry,
        EvaluationEntry,
        GalleryEntry,
        ModelEntry,
        RegistrationEntry,
        VerdictEntry,
    )

    dataset = Dataset.load(workspace.dataset)
    own = next(ledger.find(DatasetEntry, "source", dataset.source))
    yield own
    for kind in (ModelEntry, EvaluationEntry, GalleryEntry):
        yield next(ledger.find(kind, "of dataset", dataset.content))
    yield next(ledger.find(RegistrationEntry, "name", "ganflow"))
    yield next(ledger.find(VerdictEntry, "version", "1 ganflow"))


def _change_champion(workspace: Workspace) -> None:
    before = champions.written_champion("ganflow", workspace)
    for state in ("begun", "done"):
        champions.journal(workspace).append(
            {"time": "2026-01-01T00:00:00+00:00", "name": "ganflow", "version": before, "before": before}
            | {"state": state, "tracking": "embedded"}
        )


def _audit(workspace: Workspace) -> None:
    assert not list(Ledger(workspace).damage())


FUNCTIONS: dict[str, Callable[[Workspace], None]] = {
    "index made again": _index_again,
    "record, nothing new": _nothing_to_record,
    "record of one run": _record_one,
    "change of the champion": _change_champion,
    "whole ledger read (verify)": _audit,
}


def _measured(work: Callable[[Workspace], None], workspace: Workspace) -> Cost:
    began, cpu = time.perf_counter(), time.process_time()
    work(workspace)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return time.perf_counter() - began, time.process_time() - cpu, memory


def _in_process(name: str, root: Path, rounds: int) -> Cost:
    """Call a function in a process of its own; seconds of the function, and megabytes of the process."""
    command = [sys.executable, "-m", "benchmarks.long_life", "--one", str(root), name]
    return _least(
        [json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(rounds)]
    )


def _as_command(arguments: list[str], workspace: Workspace, rounds: int) -> Cost:
    """Run a command as a user does."""
    picture = next((workspace.gallery / "images").glob("*.png"))
    source = Dataset.load(workspace.dataset).source
    filled = [argument.format(picture=picture, source=source) for argument in arguments]
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        process = subprocess.Popen(_command(*filled), cwd=workspace.root, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        found.append((time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3))
        if status:
            raise SystemExit(f"{' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return _least(found)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from flows.cli.main import main; main()", *arguments]


if __name__ == "__main__":
    main()
