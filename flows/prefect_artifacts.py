"""What Prefect's pages show of a run: progress and the latest grid while it trains, scores, verdict and links."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
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

from components.apply import Applied
from components.generate import Generated, preview
from components.pictures.opening import opened
from components.reports.html import image_uri, number, sentence
from components.reports.scores import score_rows
from components.services.destination import local_path
from components.services.picture_folder import MANIFEST
from components.services.tracking import pages, runs
from components.training.checkpoints import TrainingFolder
from components.workspace.artifacts import Artifact, Evaluation
from components.workspace.graph import STAGES
from components.workspace.measure_words import plain
from components.workspace.scores import Scores
from components.workspace.text import in_markdown, printable
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows.outcomes import Outcome, summary

if TYPE_CHECKING:
    from PIL import Image

UPDATE_SECONDS = 5
# Pictures travel inside of the artifact, as no server can be counted on to have the file.
MAX_PIXELS = 640
# Rows of the table of photos.
PHOTOS = 100


@contextmanager
def training(key: str, images: int, workspace: Workspace) -> Iterator[None]:
    """Progress of the training with this key, and its latest grid, kept up to date until the block ends."""
    run = TrainingFolder(workspace.state / "training" / key)
    ids: dict[str, UUID] = {}
    with suppress(Exception):
        share, text = _progress(run, images)
        ids["progress"] = create_progress_artifact(share, "training", text)  # type: ignore[assignment]
        picture, text = _picture(run)
        ids["samples"] = create_image_artifact(picture, "samples", text)  # type: ignore[assignment]
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
    names = "\n".join(f"- {_literal(name)}" for name in added[:20])
    more = f"\n- and {len(added) - 20} more" if len(added) > 20 else ""
    text = f"## {len(added)} new files from {_literal(inbox)}\n\n{said[0].upper()}{said[1:]}.\n\n{names}{more}"
    create_markdown_artifact(text, "data", "New data")


def result(outcome: Outcome, made: Sequence[Artifact], reasons: Mapping[str, str | None], workspace: Workspace) -> None:
    """Show on one page what a run did: each stage and why it ran, the pictures that it made, and where to look.

    `made`: by each stage, in their order; `reasons`: why a stage ran, None where it was up to date.
    """
    lines = [f"## {_literal(outcome.what)}", "", f"{_literal(sentence(outcome.message))}", ""]
    if made:
        lines += ["| stage | why it ran | result |", "|---|---|---|"]
        for artifact in made:
            name = next(stage.name for stage in STAGES if stage.artifact is type(artifact))
            why = "to finish what was begun" if not reasons else reasons.get(name) or "up to date"
            lines.append(f"| {name} | {_literal(why)} | {_literal(summary(artifact, workspace))} |")
        lines.append("")
    lines += [_where(outcome.verdict, workspace), "", _sheet(workspace)]
    create_markdown_artifact("\n".join(lines), "result", f"What this run did: {printable(outcome.what)}")


def scores(evaluation: Evaluation) -> None:
    """Show the table of scores, each with its interval beside what real images get, and how it is read."""
    found = score_rows(Scores.of(evaluation))
    of_task = any(row.beside for row in found)
    beside = "without a network" if of_task else "real images"
    rows = [
        {
            "score": row.title,
            "value": row.value,
            "95 %": " to ".join(row.interval),
            beside: ", ".join(f"{name} {value}" for name, value, _ in row.baselines) or row.real,
            "standing": row.standing,
            "how to read it": f"{row.better}. {row.text}".removeprefix(". "),
            "name": row.name,
        }
        for row in found
    ]
    words = "real images: what they get in place of samples, so what a perfect generator would get"
    if of_task:
        words = "without a network: what is made of the same inputs"
    create_table_artifact(rows, "scores", f"{evaluation.samples:,} {'images' if of_task else 'samples'}; {words}")


def verdict(judged: Verdict, workspace: Workspace) -> None:
    """Show the gate's answer with what it rests on, and where to look further."""
    checks = "\n".join(
        f"| {'passed' if check.result == 'passed' else f'**{check.result.lower()}**'} | {_literal(check.name)} "
        f"| {_literal(check.words)} |"
        for check in judged.checks
    )
    text = (
        f"## {judged.name} version {judged.challenger}: {judged.answer}\n\n**{_literal(judged.headline)}.** "
        f"{_literal(sentence(judged.reason))}\n\n{_evidence(judged)}\n\n| | check | |\n|---|---|---|\n{checks}\n\n"
        f"{_where(judged, workspace)}"
    )
    create_markdown_artifact(
        text, "verdict", f"Version {judged.challenger}: {judged.answer}; {printable(judged.reason)}"
    )


def _evidence(judged: Verdict) -> str:
    """Return the distances that were compared, as a table with a sentence on the difference."""
    rows = [(f"version {judged.challenger} (challenger)", judged.kid_challenger)]
    if judged.kid_champion is not None:
        rows.append((f"version {judged.champion} (champion)", judged.kid_champion))
    rows.append(
        ("real images" if judged.baseline is None else f"{plain(judged.baseline)}, without a network", judged.floor)
    )
    table = "\n".join(f"| {name} | {number(value)} |" for name, value in rows)
    of = (
        "KID, lower is better; {:,} samples"
        if judged.measure is None
        else f"{judged.distance}, lower is better; {{:,}} files"
    )
    text = f"| distance to held-out images ({of.format(judged.samples)}) | |\n|---|---|\n{table}\n\n"
    if judged.kid_champion is None:
        return f"{text}There was no champion to compare with."
    text += (
        f"The challenger is nearer by {number(judged.improvement)}: by {number(judged.low)} to {number(judged.high)} "
        f"with a confidence of {1 - judged.alpha:.0%}; it takes {number(judged.margin)} to be promoted."
    )
    return f"{text} `{judged.command}` would let it decide." if judged.command else text


def _where(judged: Verdict | None, workspace: Workspace) -> str:
    """Return where the version, its run, pictures and pages are: links where a server shows them, else commands."""
    lines = []
    if judged:
        links = [f"[{name}]({address})" for name, address in mlflow_pages(judged, workspace).items()]
        opened = ", ".join(links) if links else "`ganflow ui` opens the run and the version"
        lines.append(f"- MLflow: {opened}")
        lines.append(f"- Evidence of the gate: `{workspace.verdict / 'verdict.html'}`")
    lines.append(f"- Report with pictures, scores and curves: `{workspace.gallery / 'report.html'}`")
    return "\n".join(lines)


def _sheet(workspace: Workspace) -> str:
    """Return the finished pictures as Markdown shows them; empty where there are none."""
    sheet = workspace.gallery / "contact_sheet.png"
    if not sheet.exists():
        return ""
    with opened(sheet) as image:
        return f"![Finished pictures]({_inline(image)})"


def mlflow_pages(judged: Verdict, workspace: Workspace) -> dict[str, str]:
    """Return the addresses in MLflow of a version and its run, by what they show; none where no server runs."""
    server = pages.server_of(workspace)
    if server is None:
        return {}
    found = {f"version {judged.challenger}": pages.version(server, judged.name, judged.challenger)}
    run_id = runs.run_of(judged.challenger_key, workspace)
    if run_id and (experiment := runs.experiment_of(run_id, workspace)):
        found["its run"] = pages.run(server, experiment, run_id)
    return found


def generated(done: Generated) -> None:
    """How many pictures are where, by which version, and the first of them."""
    batch = done.batch
    steps = ", ".join(step.name for step in batch.steps) or "none"
    classes = _literal(batch.label or "all in turn")
    text = (
        f"## {_literal(str(batch))}\n\n"
        f"In `{done.storage.uri}`; {done.made:,} were made by this run. `{MANIFEST}` has the hash of each file.\n\n"
        "| class | seeds | truncation | finishing steps | model |\n|---|---|---|---|---|\n"
        f"| {classes} | {batch.seed} to {batch.seed + batch.images - 1} | {batch.truncation:g} | "
        f"{steps} | `{batch.model}` |"
    )
    create_markdown_artifact(text, "render", "A batch of finished images")
    create_image_artifact(_inline(preview(done)), "rendered", "the first of them")


def applied(done: Applied, workspace: Workspace) -> None:
    """What was made of photos and where it is, what was refused and why, and the first result."""
    rows = ["| photo | |", "|---|---|"]
    rows += [f"| {_literal(made.name)} | {_literal('; '.join(('made', *made.said)))} |" for made in done.made]
    rows += [f"| {_literal(name)} | refused: {_literal(why)} |" for name, why in done.refused.items()]
    rows += [f"| {_literal(name)} | left: {_literal(why)} |" for name, why in done.left.items()]
    more = len(rows) - 2 - PHOTOS
    table = "\n".join(rows[: PHOTOS + 2]) + (f"\n\nand {more:,} more, in the log" if more > 0 else "")
    create_markdown_artifact(f"## {_literal(str(done))}\n\n{table}", "apply", "Photos and what was made of them")
    folder = local_path(done.place, workspace.root)
    if folder is not None and done.made:
        # A result may be too large to look at, and is none the less.
        with suppress(Exception), opened(folder / done.made[0].name) as image:
            create_image_artifact(_inline(image), "applied", "the first of them")


def _follow(run: TrainingFolder, images: int, ids: dict[str, UUID], done: threading.Event) -> None:
    before = ""
    while ids:
        last = done.wait(UPDATE_SECONDS)
        # The server may be away for a moment; the next time tells all.
        with suppress(Exception), get_client(sync_client=True) as client:
            share, text = _progress(run, images)
            client.update_artifact(ids["progress"], ArtifactUpdate(data=share, description=text))
            picture, text = _picture(run)
            if picture != before:
                client.update_artifact(ids["samples"], ArtifactUpdate(data=picture, description=text))
                before = picture
        if last:
            return


def _progress(run: TrainingFolder, images: int) -> tuple[float, str]:
    """Per cent of the training that are done, and in words how much, how long it takes yet, and the last score."""
    rows = [row for row in run.read_progress()[0] if "images" in row]
    done = max((row["images"] for row in rows), default=0)
    words = [f"{done:,} of {images:,} images"]
    speed = next((row["images_per_second"] for row in reversed(rows) if row.get("images_per_second")), None)
    if speed and done < images:
        left = (images - done) / speed
        words.append(f"{speed:,.0f} a second, about {f'{left:.0f} s' if left < 100 else f'{left / 60:.0f} min'} left")
    if scored := [row for row in rows if "score" in row]:
        best = min(scored, key=lambda row: row["score"])
        words.append(f"score {scored[-1]['score']:.3g}, the lowest {best['score']:.3g} at image {best['images']:,}")
    return min(100.0, 100 * done / images), "; ".join(words)


def _picture(run: TrainingFolder) -> tuple[str, str]:
    """Return the latest grid as an address that holds the picture itself, with a caption; an empty pixel before."""
    from PIL import Image

    grids = sorted(run.samples.glob("*.png"))
    with opened(grids[-1]) if grids else Image.new("L", (1, 1)) as image:
        caption = f"samples at image {int(grids[-1].stem):,}" if grids else "samples come with the first checkpoint"
        return _inline(image), caption


def _literal(text: str) -> str:
    """Return `text` as Prefect's pages show it literally: they show entities as they are written."""
    return re.sub(r"&#(\d+);", lambda entity: f"\\{chr(int(entity[1]))}", in_markdown(text))


def _inline(image: Image.Image) -> str:
    """Return a picture as the address of itself."""
    image.thumbnail((MAX_PIXELS, MAX_PIXELS))
    return image_uri(image, optimize=True)
