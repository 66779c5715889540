"""The import rules, and the graphs that must agree: keys.py, params.py, dvc.yaml and what the code really imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.workspace.graph import STAGES, Stage
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from tests.conftest import PROJECT

COMPONENTS = PROJECT / "components"
FILES = sorted([*COMPONENTS.rglob("*.py"), *(PROJECT / "flows").glob("*.py")])
# Files that a stage imports and that do not make its result, each with its reason.
NOT_RESULTS = {
    "params.py": "the validated values are hashed",
    "gan/options.py": "the validated values are hashed",
    "keys.py": "names the code",
    "services/tracking.py": "reports, and writes nothing into an artifact (but register's)",
}


def imports(path: Path, at_top: bool = False) -> Iterator[str]:
    """Modules that `path` imports, absolute, `components.gan.options`; all, or only those run at import."""
    tree = ast.parse(path.read_text())
    package = path.relative_to(PROJECT).with_suffix("").parts[:-1]
    nodes: Iterator[ast.AST] | list[ast.stmt] = iter(tree.body) if at_top else _running(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield module
            yield from (f"{module}.{name.name}" for name in node.names)


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only the type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _running(node)


def file_of(module: str) -> Path | None:
    path = PROJECT / Path(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file() and COMPONENTS in file.parents), None)


def closure(start: Path) -> set[str]:
    """Files under components/ that run when `start` does, without docstring-only ones."""
    found, waiting = {start}, [start]
    while waiting:
        at = waiting.pop()
        if at.relative_to(COMPONENTS).as_posix() in NOT_RESULTS and at != start:
            continue
        for file in filter(None, map(file_of, imports(at))):
            if file not in found:
                found.add(file)
                waiting.append(file)
    names = {file.relative_to(COMPONENTS).as_posix() for file in found if len(ast.parse(file.read_text()).body) > 1}
    return names - NOT_RESULTS.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PROJECT).as_posix())
def test_dependencies_point_down(path: Path) -> None:
    used = set(imports(path))
    tops = {module.partition(".")[0] for module in used}
    name = path.relative_to(PROJECT).as_posix()
    allowed = {
        "prefect": name.startswith("flows/"),
        "typer": name.startswith("flows/cli"),
        "ray": name == "components/services/cluster.py",
        "mlflow": name in ("components/services/tracking.py", "components/services/serving_model.py"),
        "dvc": name == "components/services/versioning.py",
        "flows": name.startswith("flows/"),
        "pickle": False,
        "torchvision": False,
    }
    assert not [tool for tool in tops if not allowed.get(tool, True)]
    inside = {module for module in used if module.startswith("components.")}
    if name.startswith("components/gan/"):
        assert all(module.startswith("components.gan") for module in inside)
        assert "components" not in tops or all(not m.startswith("components.") or ".gan" in m for m in used)
    if name.startswith("components/") and "/" not in name.removeprefix("components/"):
        # Stages hand each other artifacts, and do not call each other.
        assert not {module.split(".")[1] for module in inside} & {stage.name for stage in STAGES}
    if name.startswith("components/services/"):
        assert all(module.split(".")[1] in ("artifacts", "gan", "services") for module in inside)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PROJECT).as_posix())
def test_nothing_happens_at_import(path: Path) -> None:
    allowed = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Assign, ast.AnnAssign, ast.If, ast.With)
    for node in ast.parse(path.read_text()).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        registers = path.name == "serving_model.py" and "set_model" in ast.unparse(node)
        registers |= path.name == "cli.py" and ast.unparse(node).startswith("app.")
        assert isinstance(node, allowed) or docstring or registers, ast.unparse(node)


@pytest.mark.parametrize("command", ["--help", "run --dry-run"])
def test_light_commands_import_nothing_heavy(command: str) -> None:
    code = (
        "import sys; from flows.cli.main import app; app(sys.argv[1:], standalone_mode=False);"
        "print([m for m in ('torch', 'ray', 'mlflow', 'prefect', 'dvc', 'pandas', 'numpy') if m in sys.modules])"
    )
    process = [sys.executable, "-c", code, *command.split()]
    out = subprocess.run(process, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.name)
def test_the_code_of_a_stage_is_what_it_imports(stage: Stage) -> None:
    expected = closure(COMPONENTS / f"{stage.name}.py")
    if stage.name == "postprocess":
        expected |= {"report.html.jinja"}
    if stage.name == "register":
        expected |= {"services/tracking.py", "services/serving_model.py"}
    assert set(stage.code) == expected
    assert list(stage.code) == sorted(stage.code)


def test_every_graph_is_the_same() -> None:
    home = Workspace(PROJECT)
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == [stage.name for stage in STAGES]
    # No stages: the gate, whose answer depends on who is champion, and what else runs on a schedule.
    assert list(Params.model_fields) == [*stages, "promote", "retrain", "drift", "clean"]
    folders = {stage.name: stage.folder(home).relative_to(PROJECT).as_posix() for stage in STAGES} | {"data": "data"}
    for stage in STAGES:
        described = stages[stage.name]
        assert described["cmd"] == f"ganflow {stage.name}"
        assert described["params"] == [stage.name]
        inputs = [folders[name] for name in stage.inputs]
        assert described["deps"] == inputs + [f"components/{file}" for file in stage.code]
        (out,) = described["outs"]
        ((folder, settings),) = out.items()
        assert folder == folders[stage.name]
        # `persist` keeps the last good result; `cache: false` keeps a registration from being restored without one.
        assert settings == ({"cache": False} if stage.name == "register" else {}) | {"persist": True}


def test_data_is_read_only_for_pushes() -> None:
    (out,) = yaml.safe_load((PROJECT / "data.dvc").read_text())["outs"]
    assert out["remote"] == "sample"
    assert out["push"] is False
    config = (PROJECT / ".dvc" / "config").read_text()
    assert "remote =" not in config.replace("['remote \"sample\"']", "")
