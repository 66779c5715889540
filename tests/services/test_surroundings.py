"""What shells and machines bring along: mended for ganflow and what it starts, or one sentence with the remedy."""

from __future__ import annotations

import os
import pwd
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from components.gan.errors import UserError
from components.services import surroundings
from components.services.git_environment import harmless
from tests.conftest import PROJECT, environment, ganflow


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "mended", [])


def mended(home: Path, **given: str) -> dict[str, str]:
    """What becomes of an environment in which all else is well."""
    found = {"HOME": str(home), **given}
    del surroundings.mended[:]
    surroundings.mend(found)
    assert bool([words for words in surroundings.mended if "a process may open" not in words]) == (
        found != {"HOME": str(home), **given}
    )
    return found


def test_an_ordinary_shell_is_left_as_it_is(tmp_path: Path) -> None:
    given = {"TZ": "Europe/Berlin", "OMP_NUM_THREADS": "4,2", "GIT_AUTHOR_NAME": "me"}
    assert mended(tmp_path, **given) == {"HOME": str(tmp_path), **given}
    assert mended(tmp_path, TZ="EST5EDT")["TZ"] == "EST5EDT"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("exceptions", [{}, {"NO_PROXY": "localhost,.corp.example"}, {"no_proxy": ".corp.example"}])
def test_no_proxy_stands_between_our_processes(tmp_path: Path, name: str, exceptions: dict[str, str]) -> None:
    found = mended(tmp_path, **{name: "http://proxy:3128"}, **exceptions)
    hosts = found["NO_PROXY"].split(",")
    assert found["no_proxy"] == found["NO_PROXY"] and {"127.0.0.1", "localhost", "::1"} < {*hosts, ""}
    assert set(",".join(exceptions.values()).split(",")) - {""} <= set(hosts) and len(hosts) == len(set(hosts))
    # A second time nothing is left to be done.
    again = dict(found)
    surroundings.mend(again)
    assert again == found


def test_every_host_without_a_proxy(tmp_path: Path) -> None:
    assert mended(tmp_path, HTTP_PROXY="http://proxy", NO_PROXY="*", no_proxy="*")["NO_PROXY"] == "*"


def test_the_repository_of_a_hook_is_not_ours(tmp_path: Path) -> None:
    told = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True).stdout
    # Settings that a user gives to git by hand.
    names = {*told.split()} - {"GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"}
    assert mended(tmp_path, **dict.fromkeys(names, "/elsewhere")) == {"HOME": str(tmp_path)}


@pytest.mark.parametrize("threads", ["0", "-1", "many", "", "2,0", "²", "1,²", "٤", "9" * 5_000])
def test_no_number_of_threads(tmp_path: Path, threads: str) -> None:
    assert mended(tmp_path, OMP_NUM_THREADS=threads) == {"HOME": str(tmp_path)}


@pytest.mark.parametrize("zone", ["No/Where", ":No/Where", "../../etc/passwd"])
def test_no_time_zone(tmp_path: Path, zone: str) -> None:
    assert mended(tmp_path, TZ=zone) == {"HOME": str(tmp_path)}


@pytest.mark.parametrize("home", ["/nonexistent", "/proc/self", "/dev/null"])
def test_a_home_that_cannot_be_written(home: str) -> None:
    # The folder that all such tools share has a short path.
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o700)
        found = mended(Path(home), TMPDIR=made)
        own = Path(made) / f"ganflow-{os.getuid()}"
        assert own.stat().st_mode & 0o777 == 0o700
        # The settings in a home that can be read are still found.
        assert found["HOME"] == (home if home == "/proc/self" else str(own))
        assert Path(found["MPLCONFIGDIR"]).is_relative_to(own)
        assert mended(Path(home), TMPDIR=made, MPLCONFIGDIR="/kept")["MPLCONFIGDIR"] == "/kept"


def test_a_user_without_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = next(number for number in range(60_000, 61_000) if number not in {each.pw_uid for each in pwd.getpwall()})
    monkeypatch.setattr(os, "getuid", lambda: free)
    assert mended(tmp_path)["USER"] == f"user-{free}"
    assert mended(tmp_path, USER="me") == {"HOME": str(tmp_path), "USER": "me"}


@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy"])
def test_a_proxy_that_no_client_can_use(name: str) -> None:
    surroundings.check({name: "proxy.corp.example:3128"})
    with pytest.raises(UserError, match=f"{name} names a socks5h proxy"):
        surroundings.check({name: "socks5h://me:hush@127.0.0.1:1080"})


def test_few_open_files(tmp_path: Path) -> None:
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); import ganflow; ganflow.main()"
    (tmp_path / "params.yaml").write_text("{}")
    command = [sys.executable, "-c", few, "train"]
    told = subprocess.run(
        command, cwd=tmp_path, env=environment(PYTHONPATH=str(PROJECT)), capture_output=True, text=True
    )
    assert told.returncode == 2
    assert "64 files" in told.stderr and "ulimit -n" in told.stderr and len(told.stderr.splitlines()) == 1


def test_the_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
        surroundings.mend({"HOME": str(tmp_path)})
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(surroundings.OPEN_FILES, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("name", ["a?b", "{{ x }}", "a\nb", "a\x1b[2J", "a\udcff"])
def test_paths_that_databases_cannot_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="name another folder"):
        surroundings.check_path(tmp_path / name)


def test_a_refused_path_is_not_made(tmp_path: Path) -> None:
    told = ganflow(tmp_path, "run", "--workspace", "a?b=c;d", PYTHONPATH=str(PROJECT))
    assert told.returncode == 2 and "'?'" in told.stderr
    assert not list(tmp_path.iterdir())


def test_other_signs_in_paths(tmp_path: Path) -> None:
    surroundings.check_path(tmp_path / "My Faces (2) & 50% #1=;:@,'\"{}[]*$HOME\\ ünï 🐈")


@pytest.mark.parametrize("count", ["²", "9" * 5_000, "1000000000", "٣", "-1", "x"])
def test_a_count_of_settings_that_git_refuses_is_none(count: str) -> None:
    assert harmless({"GIT_CONFIG_COUNT": count})["GIT_CONFIG_COUNT"] == "3"
