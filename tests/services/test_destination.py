"""Where pictures may go, however the place is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.gan.errors import UserError
from components.services import versioning
from components.services.destination import Destination, local_path
from components.services.picture_folder import MANIFEST, PictureBatch, PictureFolder
from components.workspace.workspace import Workspace
from flows.cli.shared import typed

BATCH = PictureBatch(name="ganflow", version=1, model="0" * 16, images=2, label="", seed=0, truncation=1, steps=())
NAMES = {"a-0.png", "b-1.png"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "w s"
    for name in ("data/c", "artifacts/model", "mlruns", ".ganflow", ".dvc", ".git", "renders"):
        (root / name).mkdir(parents=True)
    (root / "params.yaml").write_text("")
    return Workspace(root)


def ways(folder: Path, root: Path, tmp_path: Path) -> list[str]:
    """How a folder of the workspace may be written."""
    inside = folder.relative_to(root)
    link = tmp_path / f"link-{inside.as_posix().replace('/', '-')}"
    link.symlink_to(folder)
    return [
        str(inside),
        f"{inside}/",
        f"renders/../{inside}",
        str(folder),
        f"{folder}/more/and more",
        folder.as_uri(),
        f"file://{folder}",
        f"FILE://{folder}",
        f"file://localhost{folder}",
        f"{root.as_uri()}/renders/%2e%2e/{inside}",
        str(link),
        f"{link}/new",
        f"../{root.name}/{inside}",
    ]


@pytest.mark.parametrize(
    "name", ["data", "data/c", "artifacts", "artifacts/model", "mlruns", ".ganflow", ".dvc", ".git"]
)
def test_no_way_leads_into_what_the_workspace_keeps(workspace: Workspace, tmp_path: Path, name: str) -> None:
    for place in ways(workspace.root / name, workspace.root, tmp_path):
        with pytest.raises(UserError, match=f"{name.partition('/')[0]}/, which is not for pictures") as refusal:
            Destination.of(place, workspace)
        assert "\n" not in str(refusal.value)


def test_another_workspace_is_kept_from_pictures_too(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "other")
    with pytest.raises(UserError, match="data/, which is not for pictures"):
        Destination.of(str(workspace.data / "c"), other)


def test_data_that_are_a_link_are_kept_from_pictures_by_either_name(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "linked")
    (tmp_path / "pictures").mkdir()
    workspace.root.mkdir()
    workspace.data.symlink_to(tmp_path / "pictures")
    for place in ("data", str(tmp_path / "pictures" / "new")):
        with pytest.raises(UserError, match="data/, which is not for pictures"):
            Destination.of(place, workspace)


def test_a_home_that_the_shell_left_is_found(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert Destination.of("~/x", workspace).folder == tmp_path / "home" / "x" == typed(Path("~/x"))
    assert Destination.of("./~/x", workspace).folder == (workspace.root / "~" / "x").resolve()
    # A command takes a folder as of the shell's, a flow as of the workspace.
    assert typed(Path("x")) == tmp_path / "x"
    for find in (lambda place: typed(Path(place)), lambda place: Destination.of(place, workspace)):
        with pytest.raises(UserError, match=r"there is no such user; write \./~nobody-here/x"):
            find("~nobody-here/x")


@pytest.mark.parametrize("place", ["renders/x", "dataset", "data2", "../elsewhere", "my artifacts"])
def test_other_folders_are_for_pictures(workspace: Workspace, place: str) -> None:
    assert Destination.of(place, workspace).folder == (workspace.root / place).resolve()


def test_a_file_of_another_machine_is_no_place(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="is no file of this machine: write a path"):
        Destination.of("file://elsewhere/data", workspace)


@pytest.mark.parametrize(
    ("other", "place"),
    [
        ("s3://bucket/inbox", "s3://bucket/inbox"),
        ("s3://bucket/inbox/", "s3://bucket/inbox/new"),
        ("s3://bucket", "s3://bucket/anything"),
        ("s3://bucket/inbox", "s3://bucket//x/../inbox/new"),
        ("S3://bucket/inbox", "s3://bucket/inbox/new"),
        ("/srv/inbox", "/srv/inbox/new"),
        ("/srv/inbox", "file:///srv/inbox"),
        ("../inbox", "../inbox"),
    ],
)
def test_what_is_kept_elsewhere_is_not_mixed_with_pictures(workspace: Workspace, other: str, place: str) -> None:
    with pytest.raises(UserError, match="which is not for pictures"):
        Destination.of(place, workspace, [other])


@pytest.mark.parametrize("place", ["s3://bucket/inbox2", "s3://other/inbox", "gs://bucket/inbox"])
def test_other_buckets_are_for_pictures(workspace: Workspace, place: str) -> None:
    assert Destination.of(place, workspace, ["s3://bucket/inbox"]).folder is None


def test_the_remotes_of_dvc_are_known_without_it(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.root / ".dvc" / "config").write_text(
        "[core]\n    remote = one\n['remote \"one\"']\n    url = s3://bucket/dvc\n"
        "['remote \"two\"']\n    url = ../../there\n"
    )
    (workspace.root / ".dvc" / "config.local").write_text("no settings")
    remotes = versioning.remotes(workspace)
    assert [Path(place).resolve() if "://" not in place else place for place in remotes] == [
        "s3://bucket/dvc",
        (tmp_path / "there").resolve(),
    ]
    for place in ("s3://bucket/dvc/files", str(tmp_path / "there" / "new")):
        with pytest.raises(UserError, match="which is not for pictures"):
            Destination.of(place, workspace, remotes)


# --- a folder that holds something ---


def opened(place: Destination) -> set[str]:
    with PictureFolder.open(BATCH, NAMES, place) as folder:
        return folder.there


@pytest.mark.parametrize("name", ["film.mkv.part", "a-0.png.part", "notes.txt", f"{'0' * 32}.part", ".hidden"])
def test_what_others_put_there_stays_and_no_picture_comes_to_it(workspace: Workspace, name: str) -> None:
    place = Destination.of("downloads", workspace)
    assert place.folder
    place.folder.mkdir()
    (place.folder / name).write_text("theirs")
    with pytest.raises(UserError, match="downloads holds files that are not of a rendering: choose another folder"):
        opened(place)
    assert [(file.name, file.read_text()) for file in place.folder.iterdir()] == [(name, "theirs")]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_nothing_goes_on_beside_what_others_put_there_since(workspace: Workspace, tmp_path: Path, kind: str) -> None:
    place = Destination.of("renders/x", workspace)
    assert place.folder
    assert opened(place) == set()
    if kind == "file":
        (place.folder / "film.mkv.part").write_text("theirs")
    elif kind == "folder":
        (place.folder / "a-0.png").mkdir()
    else:
        (tmp_path / "key").write_text("secret")
        (place.folder / "a-0.png").symlink_to(tmp_path / "key")
    before = sorted(place.folder.iterdir())
    with pytest.raises(
        UserError, match="which is not of this rendering: choose another folder, or move that elsewhere"
    ):
        opened(place)
    assert sorted(place.folder.iterdir()) == before


def test_what_a_killed_process_began_is_removed(workspace: Workspace) -> None:
    place = Destination.of("renders/x", workspace)
    assert place.folder
    place.folder.mkdir()
    # Killed before anything else was written, and again later.
    for begun in (MANIFEST, "a-0.png"):
        (place.folder / f"{begun}.{'0' * 32}.part").write_text("begun")
        opened(place)
        assert [file.name for file in place.folder.iterdir()] == [MANIFEST]


@pytest.mark.parametrize("place", ["file:///tmp/%00x", "http://[::1/x", "\0", "\ud800"])
def test_what_is_no_place_is_refused(workspace: Workspace, place: str) -> None:
    with pytest.raises(UserError):
        Destination.of(place, workspace, ["s3://[c/raw"])
    assert local_path("http://[::1/x", workspace.root) is None
