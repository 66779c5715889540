"""Model card, data set card and the summary: from real artifacts, in the format, and with names that nobody trusts."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from components.gan.errors import UserError
from components.gan.tasks.options import Restyle, Translate
from components.reports import cards
from components.reports.dataset_card import dataset_card, size_category
from components.reports.html import number
from components.reports.markdown import plain
from components.reports.model_card import Subject, model_card
from components.reports.summaries import LONGEST, Place, model_description, version_summary
from components.services.tracking import connection, runs
from components.training.cost import Cost
from components.workspace.artifacts import Dataset, Gallery
from components.workspace.graph import options_hash
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from flows.cli.cards import card
from tests.conftest import SPLITS, ganflow, succeeded
from tests.reports.test_verdict_page import FAILED, HOSTILE, PASSED, made

# Each of them would change a card if it were taken for Markdown, YAML or HTML.
NAMES = (
    HOSTILE,
    "a | b | c\n---\nlicense: mit",
    "[click](javascript:alert(1)) ![x](http://example.org/x.png) <http://example.org>",
    "`` ``` ` \\` **bold** _it_ ~~no~~ # title",
    "\x1b[31mred\u202e {{ 7 * 7 }} ${x} &lt;b&gt;",
    "- item: {yes: no} & *anchor !tag %x @y",
)


@pytest.fixture(scope="module")
def subject(finished: Path) -> Subject:
    """Without the verdict of the workspace, whose numbers are no business of these tests."""
    return replace(Subject.of(Workspace(finished)), verdict=None)


def with_classes(subject: Subject, names: tuple[str, ...], title: str = "ganflow") -> Subject:
    """`subject` with other classes, the first of which have these names."""
    image = subject.model.image.model_copy(update={"classes": (*names, *subject.model.image.classes[len(names) :])})
    counts = {
        split: dict(zip(image.classes, of.values(), strict=True)) for split, of in subject.dataset.class_counts.items()
    }
    assert subject.registration is not None
    return replace(
        subject,
        model=subject.model.model_copy(update={"image": image}),
        dataset=subject.dataset.model_copy(update={"image": image, "class_counts": counts}),
        registration=subject.registration.model_copy(update={"name": title}),
    )


def front_matter(card: str) -> dict[str, Any]:
    """The YAML between the first two lines of three dashes, as the Hub finds it."""
    assert card.startswith("---\n")
    text, end, _ = card[4:].partition("\n---\n")
    assert end
    facts = yaml.safe_load(text)
    assert isinstance(facts, dict)
    return facts


def rendered(markdown: str) -> str:
    """HTML by a renderer that lets HTML through and knows no YAML, as the strictest test of what was escaped."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)


def cells(counts: Mapping[str, int]) -> str:
    """Cells of a table's row, one for each split."""
    return "\n".join(f"<td>{counts[split]}</td>" for split in SPLITS)


def block(card: str, language: str) -> str:
    """The first fenced block of code in `language`."""
    return next(t.content for t in MarkdownIt().parse(card) if t.type == "fence" and t.info == language)


def test_the_model_card_is_in_the_format(subject: Subject) -> None:
    facts = front_matter(model_card(subject))
    assert facts["license"] == "unknown"
    assert facts["pipeline_tag"] == "unconditional-image-generation"
    assert facts["library_name"] == "ganflow" and "dcgan" in facts["tags"]
    (index,) = facts["model-index"]
    assert index["name"] == "ganflow, version 1"
    (results,) = index["results"]
    assert results["task"]["type"] == facts["pipeline_tag"]
    assert results["dataset"]["type"] in facts["datasets"]
    assert results["dataset"]["name"] == f"{subject.dataset.splits['training']} images"
    assert results["dataset"]["revision"] == subject.dataset.content
    metrics = subject.evaluation.metrics
    assert {m["name"]: m["value"] for m in results["metrics"]} == {
        name: value for name, value in metrics.items() if not name.endswith(("_floor", "_canaries"))
    }
    types = {"frechet_distance", "kid", "accuracy", "class_score", "psnr_nearest"}
    assert {m["type"] for m in results["metrics"]} == {*facts["metrics"]} >= types


def test_the_model_card_says_what_the_artifacts_say(subject: Subject) -> None:
    commit, version = "0123456789abcdef0123456789abcdef01234567", "fedcba9876543210"
    judged = made(challenger=1, checks=(PASSED, FAILED), answer="keep")
    card = model_card(
        replace(
            subject,
            verdict=judged,
            cost=Cost(cpu_seconds=61.5, gpu_seconds=0, energy_kwh=0.0123),
            commit=commit,
            data_version=version,
        )
    )
    page, splits = rendered(card), subject.dataset.splits
    for words in (
        "28x28 pixels, grey; 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "It makes the class that it is asked for.",
        f"It saw 4,096 images, which are {4096 / splits['training']:.1f} passes over its {splits['training']} training",
        f"it was judged by {splits['holdout']} others.",
        "Its finished images went through curate, upscale;",
        "a net trained on this data set",
        subject.dataset.source,
        subject.evaluation.feature_net[:16],
        "<strong>The gate found copied training images.</strong>",
        "<strong>Vetoed</strong>: Version 2 stays champion. Its KID is",
        "<td>CPU time</td>\n<td>61.5 s</td>",
        "<td>0.0123 kWh</td>",
        f"git checkout {commit}\ndvc checkout\nganflow run\n",
        version,
        subject.model.key.id,
        "ganflow knows no licence of the data",
    ):
        assert words in page, words
    for name, value in subject.evaluation.metrics.items():
        if not name.endswith("_floor") and not name.startswith("copied_"):
            assert f"<code>{name}</code>" in page and f"<td>{number(value)}</td>" in page
    counts = subject.dataset.class_counts
    assert f"<td>7</td>\n{cells({split: counts[split]['7'] for split in SPLITS})}" in page
    plain = rendered(model_card(replace(subject, cost=None)))
    assert "has not judged it yet" in plain and "None yet" in plain and "Not recorded." in plain
    assert block(model_card(subject), "bash") == "ganflow run\n"


def test_intervals_stand_beside_the_scores(subject: Subject) -> None:
    assert subject.evaluation.intervals
    page = rendered(model_card(subject))
    for name, (low, high) in subject.evaluation.intervals.items():
        if name.endswith("_floor") or name.startswith("copied_"):
            continue
        assert f"<td>{number(low)} to {number(high)}</td>" in page


def test_copies_are_told_beside_real_images_and_planted_ones(subject: Subject) -> None:
    metrics = {"copied_pixels_50": 0.125, "copied_pixels_50_floor": 0.02, "copied_pixels_50_canaries": 0.875}
    found = replace(subject, evaluation=subject.evaluation.model_copy(update={"metrics": metrics}))
    told = (
        "12.5% of the samples repeat a training image, of unseen real images 2.0%, of copies planted to be found 87.5%."
    )
    assert f"<code>copied_pixels_50</code>: {told}" in rendered(model_card(found))
    judged = replace(found, verdict=made(checks=(FAILED.model_copy(update={"passed": True}),)))
    assert "The gate found no sign of copied training images." in model_card(judged)


def test_the_weakest_classes_are_those_of_the_samples(subject: Subject) -> None:
    rows = [line.split(",") for line in (subject.evaluation.folder / "samples.csv").read_text().splitlines()]
    heads = rows.pop(0)
    label, predicted = heads.index("label"), heads.index("predicted")
    shares = {}
    for name in {row[label] for row in rows}:
        of = [row for row in rows if row[label] == name]
        shares[name] = sum(row[predicted] == name for row in of) / len(of)
    worst = sorted(shares, key=lambda name: (shares[name], int(name)))[:3]
    named = ", ".join(f"{name} ({shares[name]:.1%})" for name in worst)
    assert f"where they were asked for: {named}." in rendered(model_card(subject))


def test_parameters_are_those_that_made_it(subject: Subject) -> None:
    assert subject.params is not None
    written = Params.model_validate(yaml.safe_load(block(model_card(subject), "yaml")))
    for stage in ("preprocess", "train", "evaluate", "postprocess"):
        assert getattr(written, stage).hashed == getattr(subject.params, stage).hashed
    changed = Params.model_validate(
        {**subject.params.model_dump(mode="json"), "preprocess": {"resolution": 32}, "train": {"images": 1}}
    )
    card = model_card(replace(subject, params=changed))
    assert "Without those of preprocess" in card
    shown = yaml.safe_load(block(card, "yaml"))
    assert "preprocess" not in shown
    assert shown["train"] == subject.model.training.model_dump(mode="json")
    assert options_hash(Params.model_validate(shown).evaluate) == subject.evaluation.key.options


def test_the_dataset_card(subject: Subject) -> None:
    assert subject.params is not None
    card = dataset_card(subject.dataset, "digits", "fedcba9876543210", subject.params)
    facts = front_matter(card)
    assert facts["license"] == "unknown" and facts["pretty_name"] == "Images of digits"
    assert facts["size_categories"] == ["n<1K"]
    assert facts["task_categories"] == ["unconditional-image-generation", "image-classification"]
    assert facts["annotations_creators"] == ["found"]
    page = rendered(card)
    assert f"<td><strong>all</strong></td>\n{cells(subject.dataset.splits)}" in page
    assert subject.dataset.content in page and subject.dataset.source in page
    assert "dvc checkout data.dvc\nganflow preprocess\n" in page
    assert "0 duplicates, and 0 files that could not be used. No image is nearly the same" in page
    assert yaml.safe_load(block(card, "yaml")) == {"preprocess": subject.params.preprocess.hashed}


def test_the_dataset_card_counts_why_files_were_left_out(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "artifacts" / "dataset", tmp_path / "dataset")
    dataset = Dataset.load(tmp_path / "dataset").model_copy(update={"rejected": 3, "duplicates": 2})
    (tmp_path / "dataset" / "rejected.csv").write_text(
        f'path,reason\na,cut\nb,cut\nc,"{HOSTILE.replace(chr(34), "")}"\n'
    )
    alike = dataset.model_copy(update={"near_duplicates": 5, "near_groups": 2, "between_sides": 1})
    words = "5 images are nearly the same as others, in 2 groups, each of which stands on one side; 1 left out, near"
    assert words in rendered(dataset_card(alike))
    page = rendered(dataset_card(dataset))
    assert "2 duplicates, and 3 files that could not be used." in page and "<td>cut</td>\n<td>2</td>" in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("images", "category"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (70_000, "10K<n<100K"),
        (1_281_167, "1M<n<10M"),
        (10**12, "n>1T"),
        (10**15, "n>1T"),
    ],
)
def test_size_categories(images: int, category: str) -> None:
    assert size_category(images) == category


def test_unlabelled_images(subject: Subject) -> None:
    image = subject.dataset.image.model_copy(update={"classes": ("all",)})
    counts = {split: {"all": count} for split, count in subject.dataset.splits.items()}
    dataset = subject.dataset.model_copy(update={"image": image, "class_counts": counts})
    facts = front_matter(dataset_card(dataset))
    assert facts["annotations_creators"] == ["no-annotation"]
    assert facts["task_categories"] == ["unconditional-image-generation"]
    card = model_card(replace(subject, dataset=dataset, model=subject.model.model_copy(update={"image": image})))
    assert "no classes" in card and "asked for" not in card.partition("## Scores")[0]


def test_names_cannot_become_markup(subject: Subject) -> None:
    bad = FAILED.model_copy(update={"name": HOSTILE, "words": " ".join(NAMES)})
    judged = made(name=HOSTILE, reason=" ".join(NAMES), checks=(bad,), answer="keep")
    subject = replace(with_classes(subject, NAMES, HOSTILE), verdict=judged)
    model, summary = model_card(subject), version_summary(subject, PLACE)
    data = dataset_card(subject.dataset, NAMES[2], params=subject.params)
    for text in (model, data):
        assert front_matter(text)["license"] == "unknown"
    assert (
        front_matter(model)["model-index"][0]["name"] == "script alert 1 script img src x onerror alert 1 , version 1"
    )
    assert front_matter(data)["pretty_name"].startswith("Images of click javascript alert 1 x http example.org x.png")
    for text in (model, data, summary):
        page = rendered(text)
        for tag in ("script", "b>", "em>", "del>", *(("img", "a ") if text is not summary else ())):
            assert f"<{tag}" not in page, tag
        assert "\x1b" not in text and "\u202e" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    # The summary has a picture and links of its own, and no others.
    addresses = re.findall('(?:src|href)="([^"]*)"', rendered(summary))
    assert addresses and all(address.startswith(("get-artifact?path=", "#/")) for address in addresses)
    # The columns are those of the table.
    rows = rendered(data).partition("<tbody>")[2].partition("</tbody>")[0]
    assert rows.count("<tr>") == 11 and rows.count("<td") == 44
    assert "a | b | c --- license: mit" in rows


@pytest.mark.parametrize(
    "name", [*NAMES, "<b>&amp;</b>", "plain name", "T-shirt/top (1.5)", "\u732b & \u72ac", "1. one", "www.a.b"]
)
def test_what_is_escaped_reads_as_it_was_written(name: str) -> None:
    written = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    text = rendered(f"Word {plain(name)}").removeprefix("<p>Word ").removesuffix("</p>\n")
    assert "<" not in text and html.unescape(text) == written
    short = plain(name, 12)
    assert len(short) <= 12 and written.startswith(html.unescape(short).removesuffix("\u2026"))


PLACE = Place("ganflow", 1, "1", "0123456789abcdef0123456789abcdef")


def test_a_version_is_described_so_that_a_newcomer_understands_it(subject: Subject) -> None:
    cost = Cost(cpu_seconds=61.5, gpu_seconds=0, energy_kwh=0.0123)
    given = version_summary(replace(subject, verdict=made(challenger=1), commit="0" * 40, cost=cost), PLACE)
    page = rendered(given)
    assert page.startswith("<p>Promoted: version 1 became champion.")
    kid = next(name for name in subject.evaluation.metrics if name.startswith("kid_"))
    # With its name, in which direction it is good, its interval, and what real images get.
    (row,) = [line for line in given.splitlines() if f"`{kid.removesuffix('_floor')}`" in line and "KID" in line][:1]
    low, high = subject.evaluation.intervals[kid]
    assert "lower is better" in row and row.count(" to ") == 2 and low < high
    assert f'src="get-artifact?path=pictures%2Fpreview.png&amp;run_uuid={PLACE.run_id}"' in page
    assert 'load_model("models:/ganflow/1")' in html.unescape(page)
    run = f"#/experiments/1/runs/{PLACE.run_id}"
    for place in (run, f"{run}/artifacts/report/verdict.html", "#/models/ganflow/versions/1"):
        assert f'href="{place}?workflowType=machine_learning"' in page
    assert "62 s of processors" in page and "0" * 40 in page and subject.model.dataset[:16] in page
    assert version_summary(subject, PLACE).startswith("Not judged yet")


def test_descriptions_fit_into_mlflow_whatever_the_names(subject: Subject) -> None:
    worst = "|" * 10_000
    long = FAILED.model_copy(update={"words": worst})
    judged = made(name=worst, reason=worst, checks=(long,) * 9, answer="keep")
    subject = with_classes(subject, tuple(worst[:100] + str(i) for i in range(10)), worst)
    place = PLACE._replace(name=worst[:200])
    assert len(version_summary(replace(subject, verdict=judged, commit="0" * 40), place)) <= LONGEST
    assert len(model_description(subject, place)) <= LONGEST


@pytest.mark.parametrize(
    ("task", "decides", "compared"),
    [
        (Translate(), "the perceptual distance of what it makes of held-out pictures to the originals", "perceptual"),
        (Restyle(), "the KID of what it makes of held-out pictures to the classes wanted", "kid_wanted"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_decides_of_a_task_is_called_by_its_name(subject: Subject, task: Any, decides: str, compared: Any) -> None:
    training = subject.model.training.model_copy(update={"task": task})
    verdict = made(measure=compared, champion=1, challenger=2)
    subject = replace(subject, model=subject.model.model_copy(update={"training": training}), verdict=verdict)
    assert decides in model_description(subject, PLACE)
    assert f"Its {verdict.distance}, on" in model_card(subject)


def test_the_mark_is_looked_for_in_the_images(subject: Subject, tmp_path: Path) -> None:
    shutil.copytree(subject.gallery.folder, tmp_path / "gallery")
    gallery = Gallery.load(tmp_path / "gallery")
    said = "IPTC digital source type `trainedAlgorithmicMedia`"
    assert said in model_card(replace(subject, gallery=gallery))
    (tmp_path / "gallery" / gallery.pictures[0].file).write_bytes(b"nothing")
    card = model_card(replace(subject, gallery=gallery))
    assert said not in card and "carry no mark" in card


def test_the_command_prints_cards(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(finished, root)
    out = succeeded(ganflow(root, "card"))
    assert front_matter(out)["model-index"][0]["name"] == "ganflow, version 1"
    assert "Version 1 became champion" in out

    def printed(dataset: bool = False, model: str = "workspace") -> str:
        card(model, dataset, root)
        return capsys.readouterr().out

    verdict = root / "mlruns" / "verdict" / "verdict.json"
    verdict.write_text(made(challenger=1, answer="abstain").model_dump_json())
    assert "Version 2 stays champion for now" in printed()
    verdict.write_text(made(challenger=3).model_dump_json())
    assert "has not judged it yet" in printed()
    assert "# Images of ganflow" in printed(dataset=True)
    # Whatever became of the workspace, that of a version is as the gate wrote it.
    shutil.rmtree(root / "artifacts" / "model")
    assert printed(model="champion") == printed(model="challenger") == printed(model="1") == out
    assert "# Images of ganflow" in printed(dataset=True, model="1")
    with pytest.raises(UserError, match="there is no model"):
        printed()
    with pytest.raises(UserError, match="has no version 7: it has 1"):
        printed(model="7")
    with pytest.raises(UserError, match="--model: 'best' names no model"):
        printed(model="best")


def test_cards_are_attached_to_the_version_once(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(finished, root)
    workspace = Workspace(root)
    names = ("model_card.md", "dataset_card.md", "verdict.html", "verdict.json")

    def seen() -> tuple[str, int, list[str], dict[str, bytes]]:
        client = connection.open_client(workspace)
        version = client.get_model_version("ganflow", "1")
        tags = client.get_run(version.run_id).data.tags
        assert tags["mlflow.note.content"] == version.description
        report = Path(client.download_artifacts(version.run_id, "report", str(tmp_path)))
        assert client.list_artifacts(version.run_id, "pictures")
        files = sorted(file.relative_to(report).as_posix() for file in report.rglob("*"))
        return version.description, version.last_updated_timestamp, files, {n: (report / n).read_bytes() for n in names}

    cards.attach(workspace)
    first = seen()
    cards.attach(workspace)
    assert seen() == first
    described, _, files, kept = first
    subject = Subject.of(workspace)
    client = connection.open_client(workspace)
    place = Place("ganflow", 1, *runs.run_of_version("ganflow", 1, workspace))
    assert described == version_summary(subject, place)
    # Without the YAML that the Hub reads, which MLflow's page would show as text.
    assert model_card(subject).endswith(kept["model_card.md"].decode()) and kept["model_card.md"].startswith(
        b"# ganflow"
    )
    assert {*names, "report.html", "metrics.json", "hub/model_card.md", "hub/dataset_card.md"} <= {*files}
    assert kept["verdict.html"] == (workspace.verdict / "verdict.html").read_bytes()
    assert client.get_registered_model("ganflow").description == model_description(subject, place)
    data = runs.UsedData("e3f4078c", {})
    runs.attach("ganflow", 1, workspace, {"report/verdict.json": b"[]"}, runs.Descriptions("other", "of all"), data)
    assert seen()[0] == "other" and seen()[3]["verdict.json"] == b"[]"
    assert client.get_registered_model("ganflow").description == "of all"
    # What somebody wrote there stays.
    client.update_registered_model("ganflow", "ours")
    cards.attach(workspace)
    assert client.get_registered_model("ganflow").description == "ours"
    shutil.rmtree(workspace.registration)
    with pytest.raises(UserError, match="run `ganflow register`"):
        cards.attach(workspace)
