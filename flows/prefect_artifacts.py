"""What Prefect's pages show of a run: progress and the latest grid while it trains, scores, verdict and links."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from components.generate import Generated, preview
from components.pictures.opening import opened
from components.reports.html import image_uri, number
from components.reports.scores import score_rows
from components.services.picture_folder import MANIFEST
from components.services.tracking import pages, runs
from components.training.checkpoints import TrainingFolder
from components.workspace.artifacts import Evaluation
from components.workspace.scores import Scores
from components.workspace.text import in_markdown
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

UPDATE_SECONDS = 5
# Pictures travel inside of the artifact, as no server can be counted on to have the file.
MAX_PIXELS = 640


@contextmanager
def training(key: str, images: int, workspace: Workspace) -> Iterator[None]:
    """Progress of the training with this key, and its latest grid, kept up to date until the block ends."""
    run = TrainingFolder(workspace.state / "training" / key)
    ids: dict[str, UUID] = {}
    with suppress(Exception):
        text = f"of {images:,} images"
        ids["progress"] = create_progress_artifact(_share(run, images), "training", text)  # type: ignore[assignment]
        ids["samples"] = create_image_artifact(_picture(run), "samples", "the latest samples")  # type: ignore[assignment]
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(run, images, ids, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def new_data(added: Sequence[str], said: str, inbox: str) -> None:
    """Show what came from the inbox, and that the new version waits to be committed."""
    names = "\n".join(f"- {in_markdown(name)}" for name in added[:20])
    more = f"\n- and {len(added) - 20} more" if len(added) > 20 else ""
    text = f"## {len(added)} new files from {in_markdown(inbox)}\n\n{said[0].upper()}{said[1:]}.\n\n{names}{more}"
    create_markdown_artifact(text, "data", "New data")


def scores(evaluation: Evaluation) -> None:
    """Show the table of scores, each with its interval beside what real images get."""
    rows = [
        {
            "score": row.name,
            "value": number(row.compared.score.value),
            "95 %": " to ".join(map(number, row.compared.score.interval or ())),
            "real images": row.real,
            "standing": row.standing,
        }
        for row in score_rows(Scores.of(evaluation))
    ]
    words = "real images: what they get in place of samples, so what a perfect generator would get"
    create_table_artifact(rows, "scores", f"What the scores mean: docs/evaluation.md; {words}")


def verdict(judged: Verdict, workspace: Workspace) -> None:
    """Show the gate's answer with its reasons, and where to look further."""
    checks = "\n".join(
        f"| {'passed' if check.result == 'passed' else f'**{check.result.lower()}**'} | {in_markdown(check.name)} "
        f"| {in_markdown(check.words)} |"
        for check in judged.checks
    )
    run_id = runs.run_of(judged.challenger_key, workspace)
    links = ""
    if server := pages.server_of(workspace):
        version = pages.version(server, judged.name, judged.challenger)
        links = f"[version {judged.challenger} in MLflow]({version})"
        if run_id and (experiment := runs.experiment_of(run_id, workspace)):
            links += f", [its run]({pages.run(server, experiment, run_id)})"
    text = (
        f"## {judged.name} version {judged.challenger}: {judged.answer}\n\n{in_markdown(judged.reason[0].upper())}"
        f"{in_markdown(judged.reason[1:])}.\n\n{links}\n\n| | check | |\n|---|---|---|\n{checks}\n\n"
        f"The whole page: `{workspace.verdict / 'verdict.html'}`"
    )
    create_markdown_artifact(text, "verdict", "Challenger against champion")


def generated(done: Generated) -> None:
    """How many pictures are where, by which version, and the first of them."""
    batch = done.batch
    steps = ", ".join(step.name for step in batch.steps) or "none"
    classes = in_markdown(batch.label or "all in turn")
    text = (
        f"## {in_markdown(str(batch))}\n\n"
        f"In `{done.storage.uri}`; {done.made:,} were made by this run. `{MANIFEST}` has the hash of each file.\n\n"
        "| class | seeds | truncation | finishing steps | model |\n|---|---|---|---|---|\n"
        f"| {classes} | {batch.seed} to {batch.seed + batch.images - 1} | {batch.truncation:g} | "
        f"{steps} | `{batch.model}` |"
    )
    create_markdown_artifact(text, "render", "A batch of finished images")
    create_image_artifact(_inline(preview(done)), "rendered", "the first of them")


def _follow(run: TrainingFolder, images: int, ids: dict[str, UUID], done: threading.Event) -> None:
    shown = ""
    while ids:
        last = done.wait(UPDATE_SECONDS)
        # The server may be away for a moment; the next time tells all.
        with suppress(Exception), get_client(sync_client=True) as client:
            client.update_artifact(ids["progress"], ArtifactUpdate(data=100.0 if last else _share(run, images)))
            if (picture := _picture(run)) != shown:
                client.update_artifact(ids["samples"], ArtifactUpdate(data=picture))
                shown = picture
        if last:
            return


def _share(run: TrainingFolder, images: int) -> float:
    """Per cent of the training that are done."""
    rows, _ = run.read_progress()
    return min(100.0, 100 * max((row.get("images", 0) for row in rows), default=0) / images)


def _picture(run: TrainingFolder) -> str:
    """Return the latest grid as an address that holds the picture itself; an empty pixel before there is one."""
    from PIL import Image

    grids = sorted(run.samples.glob("*.png"))
    with opened(grids[-1]) if grids else Image.new("L", (1, 1)) as image:
        return _inline(image)


def _inline(image: Image.Image) -> str:
    """Return a picture as the address of itself."""
    image.thumbnail((MAX_PIXELS, MAX_PIXELS))
    return image_uri(image, optimize=True)
