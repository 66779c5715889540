"""The command `ganflow`: lets Python run it as it is meant to run, then hands over to `flows.cli.main`.

What is mended here decides what is imported and how text is read, so it comes before every import but that of the
standard library. Python takes such settings only at its start: where one is wrong it is started once more.
"""

from __future__ import annotations

import locale
import os
import sys
import sysconfig
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NoReturn

# Names the variables because of which Python was started a second time.
RESTARTED = "GANFLOW_RESTARTED"
_HERE = Path(__file__).resolve().parent
_OURS = ("components", "flows")


def main() -> None:
    """Run the command in a Python whose settings fit."""
    settings = fitting(os.environ, locale.getencoding() if sys.flags.utf8_mode == 0 else "utf-8")
    changed = [name for name in {**os.environ, **settings} if os.environ.get(name) != settings.get(name)]
    # Of the others only children learn at their start.
    if set(changed) - {"PYTHONSAFEPATH"} and RESTARTED not in os.environ:
        settings[RESTARTED] = " ".join(sorted({*changed} - {"PYTHONSAFEPATH"}))
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], settings)
    os.environ.update(settings)
    for name in _OURS:
        if (found := _found(name, sys.path)) != _HERE / name:
            _fail(f"its package {name} is found at {found}: install ganflow in an environment of its own")
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's alphabet lacks is shown with an escape.
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        from flows.cli.main import main as command
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _OURS:
            raise
        _fail(f"{error}: another package's files lie among its own; install ganflow in an environment of its own")
    command()


def _fail(sentence: str) -> NoReturn:
    print(f"ganflow: {sentence}", file=sys.stderr)
    sys.exit(2)


def fitting(environment: Mapping[str, str], encoding: str) -> dict[str, str]:
    """Return `environment` with the settings of Python with which ganflow works; `encoding`: of text, as it is now."""
    # Children import nothing from the folder that they happen to be in.
    fit = {**environment, "PYTHONSAFEPATH": "1"}
    # Without asserts and docstrings packages misbehave.
    fit.pop("PYTHONOPTIMIZE", None)
    if any(map(_is_error, environment.get("PYTHONWARNINGS", "").split(","))):
        # A package's warning would end the command.
        del fit["PYTHONWARNINGS"]
    if encoding.lower().replace("-", "") != "utf8":
        fit["PYTHONUTF8"] = "1"
    if environment.get("PYTHONIOENCODING", "utf-8").partition(":")[0].lower().replace("-", "") != "utf8":
        del fit["PYTHONIOENCODING"]
    folders = [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if _harmless(folder)]
    # Behind ours, where another's lies before it in the environment itself.
    if any(_found(name, [*folders, *_installed()]) != _HERE / name for name in _OURS):
        folders = [str(_HERE), *folders]
    if folders != environment.get("PYTHONPATH", "").split(os.pathsep):
        fit.pop("PYTHONPATH", None)
        fit |= {"PYTHONPATH": os.pathsep.join(folders)} if folders else {}
    return fit


def _is_error(setting: str) -> bool:
    """Whether a setting such as `error::UserWarning` makes errors of warnings; Python takes `e` for `error` too."""
    action = setting.partition(":")[0].strip()
    return bool(action) and "error".startswith(action)


def _harmless(folder: str) -> bool:
    """Whether modules in a folder of PYTHONPATH take the place of none of Python's, of ours and of packages here."""
    # An empty entry is the current folder.
    if not folder or Path(folder).resolve() == _HERE:
        return bool(folder)
    try:
        names = {
            entry.name.removesuffix(".py")
            for entry in os.scandir(folder)
            if entry.name.endswith(".py") or Path(entry, "__init__.py").exists()
        }
    except OSError:
        return True
    packages = Path(sysconfig.get_path("purelib"))
    return not any(
        name in sys.stdlib_module_names
        or name in _OURS
        or (packages / name / "__init__.py").exists()
        or (packages / f"{name}.py").exists()
        for name in names
    )


def _installed() -> list[str]:
    """Return where Python looks when PYTHONPATH is not set."""
    given = {str(Path(folder).resolve()) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    return [folder for folder in sys.path if folder and str(Path(folder).resolve()) not in given - {str(_HERE)}]


def _found(name: str, folders: list[str]) -> Path | None:
    spec = PathFinder.find_spec(name, folders)
    return Path(spec.origin).resolve().parent if spec and spec.origin else None


if __name__ == "__main__":
    main()
