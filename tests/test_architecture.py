"""The import rules, and the graphs that must agree: graph.py, params.py, dvc.yaml and what the code really imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.gan.network_options import ALL_NETWORKS
from components.workspace.graph import STAGES, Stage
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from tests.conftest import PROJECT

COMPONENTS = PROJECT / "components"
FILES = sorted([*COMPONENTS.rglob("*.py"), *(PROJECT / "flows").rglob("*.py")])
# A folder imports only folders further down.
FOLDERS = (
    "reports",
    "maintenance",
    "provenance",
    "evaluation",
    "training",
    "photos",
    "ingest",
    "services",
    "workspace",
    "pictures",
    "measures",
    "gan",
)
# The only files that import an outside tool: those whose path begins so.
TOOLS = {
    "prefect": ("flows/",),
    "typer": ("flows/cli/",),
    "ray": ("components/services/cluster/",),
    "mlflow": ("components/services/tracking/",),
    "dvc": ("components/services/versioning.py", "components/services/site_cache.py"),
    "tensorboardX": ("components/services/event_files.py",),
    "flows": ("flows/",),
    "pickle": (),
    "torchvision": (),
}
# Files that a stage imports and that do not make its result, each with its reason. What is not plain from the reason is
# proven by tests/workspace/test_keys.py, which edits these files and looks for the same bits.
NOT_RESULTS = {
    "gan/network_options.py": "the validated values are hashed",
    "gan/options.py": "the validated values are hashed",
    "gan/errors.py": "words",
    "gan/tasks/options.py": "the validated values are hashed",
    "gan/weights.py": "reads weights, whose hashes are checked",
    "services/storage.py": "carries files, whose hashes are checked",
    **dict.fromkeys(
        (f"services/cluster/{name}.py" for name in ("placement", "session", "tasks", "trainer", "worker")),
        "where and when work is done: the parts of it are the same anywhere, and the model names the workers",
    ),
    **dict.fromkeys(
        (f"services/tracking/{name}.py" for name in ("connection", "database", "places", "runs")),
        "reports, and writes nothing into an artifact",
    ),
    "train.py": "starts and watches the workers",
    "training/begun.py": "keeps what a training was begun with, to be finished with it",
    "training/checkpoints.py": "keeps states, whose hashes are checked: a training that goes on ends in the same bits",
    "training/cost.py": "counts seconds and estimates energy, for the ledger",
    "training/mirror.py": "copies what `checkpoints` keeps",
    "training/profiling.py": "names and times the parts of a training, which compute what they compute",
    "training/progress.py": "shows how far a training is, and gives advice",
    "training/shared_data.py": "copies a data set, whose hashes are checked",
    "workspace/artifacts.py": "describes results: what it cannot read is made again",
    "workspace/code.py": "hashes code, for the names of caches",
    "workspace/files.py": "writes results whole or not at all",
    "workspace/params.py": "the validated values are hashed",
    "workspace/workspace.py": "names the folders",
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
        # What only files import that make no result makes none either.
        if at.relative_to(COMPONENTS).as_posix() in NOT_RESULTS and at != start:
            continue
        needed = list(filter(None, map(file_of, imports(at))))
        if at == COMPONENTS / "gan" / "models" / "__init__.py":
            # Found by their names.
            needed += [at.with_name(f"{name}.py") for name in ALL_NETWORKS]
        for file in needed:
            if file not in found:
                found.add(file)
                waiting.append(file)
    return {file.relative_to(COMPONENTS).as_posix() for file in found if len(ast.parse(file.read_text()).body) > 1}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PROJECT).as_posix())
def test_outside_tools_are_imported_at_their_border_only(path: Path) -> None:
    name = path.relative_to(PROJECT).as_posix()
    tops = {module.partition(".")[0] for module in imports(path)}
    assert not [tool for tool in tops & TOOLS.keys() if not name.startswith(TOOLS[tool] or ("nowhere",))]


@pytest.mark.parametrize("path", sorted(COMPONENTS.rglob("*.py")), ids=lambda p: p.relative_to(COMPONENTS).as_posix())
def test_imports_point_down(path: Path) -> None:
    """Verbs import folders and no verb; a folder imports no verb, and only folders further down the list."""
    *above, _ = path.relative_to(COMPONENTS).parts
    files = [file for file in map(file_of, imports(path)) if file is not None and file != path]
    places = {file.relative_to(COMPONENTS).parts for file in files} - {("__init__.py",)}
    lowest = FOLDERS.index(above[0]) if above else 0
    assert not [place for place in places if len(place) == 1 or FOLDERS.index(place[0]) < lowest]


def test_tests_need_no_benchmark() -> None:
    """What both need lies in tests/."""
    files = sorted((PROJECT / "tests").rglob("*.py"))
    assert PROJECT / "tests" / "test_architecture.py" in files
    assert not [file for file in files if any(module.partition(".")[0] == "benchmarks" for module in imports(file))]


def test_every_folder_has_its_place() -> None:
    found = {path.name for path in COMPONENTS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert found == set(FOLDERS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PROJECT).as_posix())
def test_nothing_happens_at_import(path: Path) -> None:
    allowed = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Assign, ast.AnnAssign, ast.If, ast.With)
    for node in ast.parse(path.read_text()).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        registers = path.name == "serving_model.py" and "set_model" in ast.unparse(node)
        registers |= path.name == "main.py" and ast.unparse(node).startswith("app.")
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
def test_the_code_of_a_stage_is_what_it_imports_and_what_makes_its_result(stage: Stage) -> None:
    imported = closure(COMPONENTS / f"{stage.name}.py")
    networks = {f"gan/models/{name}.py" for name in ALL_NETWORKS}
    if imported & networks:
        assert networks <= imported
        imported = imported - networks | {"gan/models/{network}.py"}
    # What is not imported: templates, and the code that MLflow loads.
    besides = {
        "postprocess": {"reports/report.html.jinja", "reports/scores.toml", "reports/task_report.html.jinja"},
        "register": {"gan/tasks/windows.py", "services/tracking/serving_model.py"},
    }
    assert set(stage.code) == (imported | besides.get(stage.name, set())) - NOT_RESULTS.keys()
    assert list(stage.code) == sorted(stage.code)


def test_what_is_left_out_of_keys_is_imported_by_a_stage() -> None:
    imported = set().union(*(closure(COMPONENTS / f"{stage.name}.py") for stage in STAGES))
    assert NOT_RESULTS.keys() <= imported


def test_every_graph_is_the_same() -> None:
    workspace = Workspace(PROJECT)
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == [stage.name for stage in STAGES]
    # No stages: the gate, whose answer depends on who is champion, and what else runs on a schedule.
    assert list(Params.model_fields) == [*stages, "promote", "retrain", "drift", "apply", "clean"]
    folders = {stage.name: stage.folder(workspace).relative_to(PROJECT).as_posix() for stage in STAGES} | {
        "data": "data"
    }
    for stage in STAGES:
        described = stages[stage.name]
        assert described["cmd"] == f"ganflow {stage.name}"
        assert described["params"] == [stage.name]
        inputs = [folders[name] for name in stage.inputs]
        # Of the networks the whole folder: DVC would fail on parameters that leave the default's name out.
        networks = (file.startswith("gan/models/") for file in stage.code)
        code = ["gan/models" if shared else file for file, shared in zip(stage.code, networks, strict=True)]
        assert described["deps"] == inputs + [f"components/{file}" for file in dict.fromkeys(code)]
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
