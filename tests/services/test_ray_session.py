"""Ray as ganflow starts it on one machine: no other user and no other machine gets in, and no home is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from components.gan.errors import UserError
from components.services.own_folder import own_folder
from tests.conftest import PROJECT, environment

# Two workers, as a training has them; then where everything listens that belongs to it.
WORKS = """
import json, os, sys
from pathlib import Path
from components.gan.options import Execution
from components.services.cluster import session, trainer
from components.services.own_folder import own_folder

def work():
    import json, os, psutil
    from pathlib import Path
    from components.services.cluster import worker
    total, = worker.sum_over_workers([worker.rank() + 1.0])
    if worker.rank() == 0:
        command = psutil.Process().parent().parent()
        here = {}
        for process in [command, *command.children(recursive=True)]:
            for at in process.net_connections("inet"):
                if at.status == psutil.CONN_LISTEN:
                    here.setdefault(process.name(), []).append(at.laddr.ip)
        Path(os.environ["REPORT"]).write_text(json.dumps({"total": total, "listening": here}))
    worker.barrier()

execution = Execution(device="cpu", precision="fp32", threads=1, workers=2)
trainer.fit(work, execution, (2, 2), Path(sys.argv[1]), lambda: None)
private = own_folder()
print(json.dumps({
    "mode": oct(private.stat().st_mode & 0o777),
    "inside": sorted(each.name for each in private.iterdir()),
    "token": len(os.environ["RAY_AUTH_TOKEN"]),
}))
session.stop()
"""


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o700)
        yield Path(made)


def test_all_of_it_listens_on_this_machine_alone(tmp_path: Path, short: Path) -> None:
    report = tmp_path / "report.json"
    script = tmp_path / "works.py"
    script.write_text(WORKS)
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "training" / "key")],
        env=environment(
            PYTHONPATH=str(PROJECT), HOME="/nonexistent", RAY_TMPDIR=str(short), REPORT=str(report), OMP_NUM_THREADS="1"
        ),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(report.read_text())
    assert found["total"] == 3
    names, addresses = found["listening"].keys(), {at for each in found["listening"].values() for at in each}
    assert {"gcs_server", "raylet"} <= names and any(name.startswith("ray::RayTrainWorker") for name in names)
    assert all((getattr(ip_address(at), "ipv4_mapped", None) or ip_address(at)).is_loopback for at in addresses)
    said = json.loads(result.stdout.splitlines()[-1])
    # Ray's own folder, which it opens to everybody, lies in one that is closed; of the workers' file nothing is left.
    assert said == {"mode": "0o700", "inside": ["r"], "token": 64}


def test_the_folder_is_this_users_alone(short: Path, tmp_path: Path) -> None:
    own = own_folder({"RAY_TMPDIR": str(short)})
    assert own == short / f"ganflow-{os.getuid()}" and own.stat().st_mode & 0o777 == 0o700
    # One that is too long for a socket, or that is not there, is passed over.
    long = tmp_path / ("x" * 80)
    long.mkdir()
    for place in (long, short / "missing"):
        assert own_folder({"RAY_TMPDIR": str(place), "TMPDIR": str(short)}) == own
    # What was made before it was closed, or by somebody else.
    open_before = short / "o"
    (open_before / own.name).mkdir(parents=True)
    open_before.chmod(0o755)
    (open_before / own.name).chmod(0o777)
    assert own_folder({"RAY_TMPDIR": str(open_before)}).stat().st_mode & 0o777 == 0o700
    linked = short / "l"
    linked.mkdir(mode=0o755)
    (linked / own.name).symlink_to(tmp_path)
    other = own_folder({"RAY_TMPDIR": str(linked)})
    assert other.parent == linked and other.name.startswith(f"{own.name}-") and other.stat().st_mode & 0o777 == 0o700
    # Where others may rename what is in it, nothing is made.
    everybodys = short / "a"
    everybodys.mkdir()
    everybodys.chmod(0o777)
    assert own_folder({"RAY_TMPDIR": str(everybodys), "TMPDIR": str(short)}) == own
    assert not list(everybodys.iterdir())


def test_a_machine_without_a_usable_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.services import own_folder as module

    with pytest.raises(UserError, match="set TMPDIR"):
        module._folder(("/nowhere",))
