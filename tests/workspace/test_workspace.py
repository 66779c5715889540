"""The lock by which runs know of each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT, environment


def test_a_disk_without_locks_is_refused(tmp_path: Path) -> None:
    """As some network disks are; a lock by numbers and names would outlive a holder that was killed."""
    library = tmp_path / "no_locks.so"
    source = "#include <errno.h>\nint flock(int file, int how) { errno = ENOSYS; return -1; }\n"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"]
    subprocess.run(command, input=source, text=True, check=True)
    for taken in ("Workspace(root).exclusive()", "platform.hold(Workspace(root))"):
        code = (
            "import sys; from pathlib import Path; from components.gan.errors import UserError;"
            "from components.services import platform; from components.workspace.workspace import Workspace\n"
            f"root = Path(sys.argv[1])\ntry: {taken}\nexcept UserError as error: print(error)"
        )
        result = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env=environment(PYTHONPATH=str(PROJECT), LD_PRELOAD=str(library)),
            capture_output=True,
            text=True,
        )
        assert "has no file locks (flock)" in result.stdout and "another disk" in result.stdout, result.stderr
        assert not result.stderr
