"""Model card and data set card in the Hugging Face format: Markdown below YAML, all of it derived from artifacts.

The format: https://github.com/huggingface/hub-docs, `modelcard.md` and `datasetcard.md`. Where both are read, in
MLflow's pages and on the Hub, names come from folders and files of others: none may become markup.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..gan.errors import NotThereError
from ..gan.options import ImageFormat
from ..pictures.metadata import GENERATED
from ..services import versioning
from ..services.tracking import registry, runs
from ..training.cost import Cost, spent
from ..workspace.artifacts import Artifact, Dataset, Evaluation, Gallery, Model, Registration
from ..workspace.graph import STAGES, options_hash
from ..workspace.params import Params
from ..workspace.scores import Compared, Score, Scores
from ..workspace.verdict import Verdict
from ..workspace.workspace import Workspace
from .html import number, sentence
from .scores import ScoreRow, score_rows

# MLflow keeps 5,000 characters of a description.
SUMMARY = 4_500
CLASSES = 200
# The Hub's identifier for images that lie in folders here, not on the Hub.
LOCAL_IMAGES = "imagefolder"
NO_LICENCE = "ganflow knows no licence of the data: whoever publishes has to find out which terms hold, and name them."
COSTS = {
    "cpu_seconds": ("CPU time", "s"),
    "gpu_seconds": ("GPU time", "s"),
    "energy_kwh": ("Energy, estimated", "kWh"),
}


@dataclass(frozen=True)
class Subject:
    """A finished model, and what else is known about it."""

    model: Model
    evaluation: Evaluation
    gallery: Gallery
    dataset: Dataset
    registration: Registration | None = None
    verdict: Verdict | None = None
    # Of the workspace: cards show those of them that made these artifacts.
    params: Params | None = None
    commit: str | None = None
    data_version: str | None = None
    cost: Cost | None = None

    @classmethod
    def of(cls, workspace: Workspace) -> Subject:
        """Return what lies in the workspace, with the commit that it was registered with.

        Raises:
            UserError: there is no model, evaluation, gallery or data set.
        """
        model = Model.load(workspace.model)
        registration = Registration.load(workspace.registration) if workspace.registration.exists() else None
        if registration is not None and registration.model_key != model.key.id:
            registration = None
        tags, verdict = {}, None
        if registration is not None:
            tags = registry.tags(registration.name, registration.version, workspace)
            verdict = Verdict.last(workspace.verdict, registration.name, registration.version)
        return cls(
            model=model,
            evaluation=Evaluation.load(workspace.evaluation),
            gallery=Gallery.load(workspace.gallery),
            dataset=Dataset.load(workspace.dataset),
            registration=registration,
            verdict=verdict,
            params=Params.load(workspace.params) if workspace.params.exists() else None,
            commit=None if tags.get("commit") == "none" else tags.get("commit"),
            data_version=versioning.data_version(workspace)[0],
            cost=spent(workspace.state / "training" / model.key.id),
        )

    @property
    def title(self) -> str:
        found = self.registration
        return "ganflow" if found is None else f"{found.name}, version {found.version}"

    @property
    def conditional(self) -> bool:
        """Whether the network is told which class to make."""
        return self.model.image.labelled and self.model.training.network.conditional


def attach(workspace: Workspace) -> None:
    """Put the cards, and the verdict if there is one, into the run of the registered version, and describe it.

    Raises:
        UserError: the model is not registered, or the server cannot be reached.
    """
    subject = Subject.of(workspace)
    registration = subject.registration
    if registration is None:
        raise NotThereError("this model is not registered: run `ganflow register`")
    files = {
        "model_card.md": model_card(subject).encode(),
        "dataset_card.md": dataset_card(
            subject.dataset, registration.name, subject.data_version, subject.params
        ).encode(),
    }
    if subject.verdict is not None:
        files |= {file.name: file.read_bytes() for file in sorted(workspace.verdict.iterdir())}
    facts = {"splits": subject.dataset.splits, "classes": len(subject.dataset.image.classes)}
    data = runs.UsedData(subject.data_version or subject.dataset.source, facts)
    runs.attach(registration.name, registration.version, workspace, files, model_summary(subject), data)


def model_card(subject: Subject) -> str:
    """Return the card of one model."""
    return "\n".join(
        [
            _front_matter(_model_facts(subject)),
            f"# {_plain(subject.title)}\n",
            f"{_what_it_makes(subject.model)}\n",
            "Written by ganflow from the model's artifacts; no sentence is typed by hand.\n",
            _section("Intended use", _use(subject)),
            _section("Limits", _limits(subject)),
            _section("Data", _data(subject.dataset)),
            _section("Scores", _scores(subject.evaluation)),
            _section("Copying", _copying(subject)),
            _section("Verdict", _judged(subject.verdict)),
            _section("Cost", _cost(subject.cost)),
            _section("How to make it again", _again(subject)),
            _section("Marked as generated", _marked(subject.gallery)),
            _section("Licence", [NO_LICENCE]),
        ]
    )


def model_summary(subject: Subject) -> str:
    """Return the card in short, for the description of a model version: at most `SUMMARY` characters."""
    chosen = ("agreement", "kid", "fd", "precision", "recall")
    rows = [row for row in _score_rows(subject.evaluation) if row.compared.score.metric in chosen][:8]
    verdict = subject.verdict
    parts = [
        f"**{_plain(subject.title, 80)}**\n",
        f"{_what_it_makes(subject.model, 6, 30)}\n",
        _table(
            ("Score", "Value", "Real images"),
            [(f"`{_code(row.name)}`", number(row.compared.score.value), _floor_of(row.compared)) for row in rows],
        ),
        f"\n{[*_copying(subject)][-1].strip()}\n",
    ]
    page = ""
    if verdict is not None:
        parts += [f"**{verdict.word}**: {_plain(verdict.headline)}. {_plain(sentence(verdict.reason), 300)}\n"]
        page = ", why it was promoted or not in `verdict.html`"
    parts += [f"Code: `{subject.commit or 'not in a git repository'}`, data set `{subject.model.dataset[:16]}`.\n"]
    parts += [f"The whole card is `model_card.md` among the files of this version's run{page}."]
    return "\n".join(parts)


def dataset_card(
    dataset: Dataset, name: str = "ganflow", data_version: str | None = None, params: Params | None = None
) -> str:
    """Return the card of the data set as preprocessing left it; `name` is what it is called."""
    facts = {
        "license": "unknown",
        "pretty_name": f"Images of {_bare(name)}",
        "tags": ["ganflow", "image"],
        "annotations_creators": ["found" if dataset.image.labelled else "no-annotation"],
        "size_categories": [_size_category(sum(dataset.splits.values()))],
        "task_categories": [
            "unconditional-image-generation",
            *(["image-classification"] if dataset.image.labelled else []),
        ],
    }
    made = _section("How to make it again", _again_data(dataset, data_version, params))
    return "\n".join(
        [
            _front_matter(facts),
            f"# Images of {_plain(name)}\n",
            f"{_pixels(dataset.image)}; {_classes(dataset.image)}.\n",
            "Written by ganflow from the data set's artifact; no sentence is typed by hand.\n",
            _section("Images", _data(dataset)),
            _section("Left out", _left_out(dataset)),
            _section("Pixels", _statistics(dataset)),
            made,
            _section(
                "What is not known",
                [
                    "ganflow reads files. Who made the images, who or what they show, whether people agreed to it and "
                    "how the labels came about is not among them: whoever publishes has to add it.\n",
                    NO_LICENCE,
                ],
            ),
        ]
    )


def _model_facts(subject: Subject) -> dict[str, Any]:
    dataset, net = subject.dataset, _net(subject.evaluation)
    results = [
        {"type": _metric_type(score, net), "value": score.value, "name": score.name}
        for score in Scores.of(subject.evaluation)
        if math.isfinite(score.value) and score.images == "samples"
    ]
    task = {"type": "unconditional-image-generation", "name": "Image generation"}
    data = {"type": LOCAL_IMAGES, "name": f"{dataset.splits['training']:,} images", "revision": dataset.content}
    index = {"name": _bare(subject.title), "results": [{"task": task, "dataset": data, "metrics": results}]}
    return {
        "license": "unknown",
        "library_name": "ganflow",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["ganflow", "gan", "image-generation", subject.model.training.network.name],
        "datasets": [LOCAL_IMAGES],
        "metrics": sorted({str(result["type"]) for result in results}),
        "model-index": [index],
    }


def _use(subject: Subject) -> Iterator[str]:
    yield "For images that look like those of its data set: to try methods, to test programs, to teach, to play."
    if subject.conditional:
        yield "It makes the class that it is asked for."
    elif subject.model.image.labelled:
        yield "It cannot be asked for a class: its network is not told the classes of its data."
    yield (
        "\nNot for anything that takes its images for pictures of what exists, and not for kinds of images that are "
        "not in its data."
    )


def _limits(subject: Subject) -> Iterator[str]:
    model, evaluation, dataset = subject.model, subject.evaluation, subject.dataset
    image, training = model.image, dataset.splits["training"]
    yield f"- Its images have {image.width}x{image.height} pixels."
    steps = [step for picture in subject.gallery.pictures[:1] for step in picture.steps]
    if steps:
        yield f"- Its finished images went through {_plain(', '.join(steps))}; the scores are of samples before that."
    yield (
        f"- It saw {model.images:,} images, which are {model.images / training:,.1f} passes over its {training:,} "
        f"training images; it was judged by {evaluation.holdout_images:,} others."
    )
    net = _net(evaluation)
    kinds = {
        "classifier": ", a net trained on this data set: they compare models of the same data, and are not FID",
        "fid_inception": ", the net of FID",
    }
    yield (
        f"- Its scores are distances in the features of `{_code(net)}` (`{evaluation.feature_net[:16]}`)"
        f"{kinds.get(net, ': they are not FID')}."
    )
    counts = dataset.class_counts["training"]
    if image.labelled and max(counts.values()) >= 2 * max(1, min(counts.values())):
        yield f"- Its classes are not equally common: from {min(counts.values()):,} to {max(counts.values()):,} images."
    for text in _symptoms(model):
        yield f"- Trouble in training: {_plain(text)}."
    if weakest := _weakest(subject):
        named = ", ".join(f"{_plain(name, 60)} ({share:.1%})" for name, share in weakest)
        yield f"- The classes that the classifier finds least often where they were asked for: {named}."


def _symptoms(model: Model) -> list[str]:
    import pandas as pd

    from ..gan.symptoms import symptoms

    history = pd.read_csv(model.folder / "history.csv").to_dict("records")
    return symptoms([{str(name): value for name, value in row.items()} for row in history])


def _weakest(subject: Subject, many: int = 3) -> list[tuple[str, float]]:
    """Classes with the least agreement, where the network is told the classes and not all are perfect."""
    import pandas as pd

    table = pd.read_csv(subject.evaluation.folder / "samples.csv")
    if not subject.conditional or "predicted" not in table:
        return []
    shares = (table["predicted"] == table["label"]).groupby(table["label"]).mean().sort_values(kind="stable")
    named = zip(shares.index.to_list(), map(float, shares), strict=True)
    return [(subject.model.image.classes[label], share) for label, share in named if share < 1][:many]


def _data(dataset: Dataset) -> Iterator[str]:
    names = dataset.image.classes[:CLASSES]
    splits = sorted(dataset.splits, reverse=True)
    rows = [
        (_plain(name, 100), *(f"{dataset.class_counts[split].get(name, 0):,}" for split in splits)) for name in names
    ]
    total = ("**all**", *(f"{dataset.splits[split]:,}" for split in splits))
    yield _table(("Class", *map(str.capitalize, splits)), [*(rows if dataset.image.labelled else []), total])
    if more := len(dataset.image.classes) - len(names):
        yield f"and {more:,} classes more.\n"
    yield (
        f"{dataset.rejected:,} files were rejected and {dataset.duplicates:,} duplicates left out. "
        f"Hash of the raw data: `{dataset.source}`; of the data set: `{dataset.content}`."
    )


def _left_out(dataset: Dataset) -> Iterator[str]:
    import pandas as pd

    table = pd.read_csv(dataset.folder / "rejected.csv", dtype=str, keep_default_na=False)
    reasons = Counter(table["reason"]).most_common()
    yield f"{dataset.duplicates:,} duplicates, and {dataset.rejected:,} files that could not be used."
    if reasons:
        yield ""
        yield _table(("Reason", "Files"), [(_plain(reason), f"{count:,}") for reason, count in reasons[:CLASSES]])


def _statistics(dataset: Dataset) -> Iterator[str]:
    rows = [
        (str(index), number(mean), number(std))
        for index, (mean, std) in enumerate(zip(dataset.mean, dataset.std, strict=True), 1)
    ]
    yield "Of the training images, from 0 to 1:\n"
    yield _table(("Channel", "Mean", "Deviation"), rows)


def _scores(evaluation: Evaluation) -> Iterator[str]:
    yield f"On {evaluation.samples:,} samples before finishing. Names state features, samples and split.\n"
    yield _table(
        ("Score", "Read it", "Value", "95 % interval", "Real images"),
        [
            (
                f"{_plain(row.title)} `{_code(row.name)}`",
                _plain(row.better),
                number(row.compared.score.value),
                " to ".join(map(number, row.compared.score.interval or ())),
                _floor_of(row.compared),
            )
            for row in _score_rows(evaluation)
        ],
    )


def _score_rows(evaluation: Evaluation) -> list[ScoreRow]:
    """Rows in the order of the report, without copies, which have a section of their own."""
    return [row for row in score_rows(Scores.of(evaluation)) if row.compared.score.metric != "copied"]


def _floor_of(compared: Compared) -> str:
    return number(compared.floor.value) if compared.floor else ""


def _copying(subject: Subject) -> Iterator[str]:
    """Tell what the evaluation found, and what the gate made of it."""
    verdict = subject.verdict
    for score, floor, control in Scores.of(subject.evaluation).of_metric("copied"):
        shares = [f"{score.value:.1%} of the samples repeat a training image"]
        shares += [f"of unseen real images {floor.value:.1%}"] if floor else []
        shares += [f"of copies planted to be found {control.value:.1%}"] if control else []
        yield f"- `{_code(score.name)}`: {', '.join(shares)}."
    checks = [] if verdict is None else [check for check in verdict.checks if check.name.startswith("copying")]
    if not checks:
        yield "\nThe gate has not judged it yet: `ganflow promote` does."
    elif all(check.passed for check in checks):
        yield "\nThe gate found no sign of copied training images."
    else:
        yield "\n**The gate found copied training images.**"


def _judged(verdict: Verdict | None) -> Iterator[str]:
    if verdict is None:
        yield "None yet: `ganflow promote` compares it with the champion."
        return
    yield f"**{verdict.word}**: {_plain(verdict.headline)}. {_plain(sentence(verdict.reason))}\n"
    if verdict.champion is not None:
        yield (
            f"KID is lower than that of version {verdict.champion} by {number(verdict.improvement)}: by at least "
            f"{number(verdict.low)} and at most {number(verdict.high)}, each with a confidence of "
            f"{1 - verdict.alpha:.4g}; the margin is {number(verdict.margin)}.\n"
        )
    yield _table(
        ("Check", "Found", "Value", "Threshold", "Result"),
        [
            (
                _plain(check.name.capitalize()),
                _plain(sentence(check.words)),
                number(check.value),
                number(check.threshold),
                "passed" if check.passed else "**failed**",
            )
            for check in verdict.checks
        ],
    )


def _cost(cost: Cost | None) -> Iterator[str]:
    if not cost:
        yield "Not recorded."
        return
    rows = []
    for name, value in cost:
        title, unit = COSTS[name]
        rows.append((_plain(title), f"{value:,.4g} {unit}".strip()))
    yield _table(("What", "How much"), rows)


def _again(subject: Subject) -> Iterator[str]:
    model, commit = subject.model, subject.commit
    commands = [*([f"git checkout {commit}"] if commit else []), *(["dvc checkout"] if subject.data_version else [])]
    yield _fenced("bash", "\n".join([*commands, "ganflow run"]))
    yield from _versions(subject.data_version, commit)
    artifacts: dict[str, Artifact] = {
        "preprocess": subject.dataset,
        "train": model,
        "evaluate": subject.evaluation,
        "postprocess": subject.gallery,
    }
    sections = _sections(subject.params, artifacts)
    # The model itself knows how it was trained.
    sections.setdefault("train", model.training.model_dump(mode="json"))
    yield "With this `params.yaml`:\n"
    if absent := [name for name in artifacts if name not in sections]:
        yield f"Without those of {', '.join(absent)}: the workspace's are no longer what made this.\n"
    yield _fenced("yaml", _yaml({stage.name: sections[stage.name] for stage in STAGES if stage.name in sections}))
    yield (
        f"Key of the model: `{model.key.id}`, by {model.execution.workers} x {model.execution.threads} threads on "
        f"{model.execution.device} in {model.execution.precision}. Equal data, parameters and code give the same bytes "
        "on such a machine."
    )


def _again_data(dataset: Dataset, data_version: str | None, params: Params | None) -> Iterator[str]:
    commands = ["dvc checkout data.dvc"] if data_version else []
    yield _fenced("bash", "\n".join([*commands, "ganflow preprocess"]))
    yield from _versions(data_version)
    if sections := _sections(params, {"preprocess": dataset}):
        yield "With this `params.yaml`:\n"
        yield _fenced("yaml", _yaml(sections))
    yield f"Key of the data set: `{dataset.key.id}`."


def _versions(data_version: str | None, commit: str | None = None) -> Iterator[str]:
    known = [("Code", commit), ("data, by DVC", data_version)]
    if found := [f"{what}: `{_code(version)}`" for what, version in known if version]:
        yield f"{'; '.join(found)}.\n"


def _sections(params: Params | None, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    """Sections of `params` that made these artifacts: those that were changed since are left out."""
    if params is None:
        return {}
    sections = {name: getattr(params, name) for name in artifacts}
    return {
        name: options.hashed
        for name, options in sections.items()
        if options_hash(options) == artifacts[name].key.options
    }


def _marked(gallery: Gallery) -> Iterator[str]:
    first = gallery.pictures[0].file if gallery.pictures else None
    if first is not None and GENERATED.encode() in (gallery.folder / first).read_bytes():
        kind = GENERATED.rpartition("/")[2]
        yield f"Every finished image says so in its metadata: IPTC digital source type `{kind}`, in XMP."
    else:
        yield "The finished images carry no mark: say that they are generated wherever they are shown."


def _what_it_makes(model: Model, many: int = 20, width: int = 60) -> str:
    network = model.training.network.name
    return (
        f"Makes images from noise: {_pixels(model.image)}; {_classes(model.image, many, width)}. "
        f"The network is `{network}` with {model.generator_parameters:,} parameters."
    )


def _pixels(image: ImageFormat) -> str:
    colours = {1: "grey", 3: "colour", 4: "colour with transparency"}.get(image.channels, f"{image.channels} channels")
    return f"{image.width}x{image.height} pixels, {colours}"


def _classes(image: ImageFormat, many: int = 20, width: int = 60) -> str:
    if not image.labelled:
        return "no classes"
    named = ", ".join(_plain(name, width) for name in image.classes[:many])
    return f"{len(image.classes):,} classes: {named}{' and others' if len(image.classes) > many else ''}"


def _net(evaluation: Evaluation) -> str:
    """Return the name of the feature net, in which KID is measured."""
    return next((score.features for score in Scores.of(evaluation) if score.metric == "kid"), "unknown")


def _metric_type(score: Score, net: str) -> str:
    """Return what a score is a number of, as the format calls it where it knows such."""
    if score.metric == "fd":
        return "frechet_distance"
    if score.metric in ("agreement", "classification_accuracy", "discriminator_accuracy"):
        return "accuracy"
    return "_".join(filter(None, (score.metric, score.split, score.features if score.features != net else "")))


def _size_category(images: int) -> str:
    """`1K<n<10K`, one of the powers of ten that the format names."""
    if images < 1_000:
        return "n<1K"
    names = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    power = min(len(str(images)) - 4, len(names) - 1)
    return f"{names[power]}<n<{names[power + 1]}" if power + 1 < len(names) else f"n>{names[-1]}"


def _front_matter(facts: Mapping[str, Any]) -> str:
    return f"---\n{_yaml(facts, None)}---\n"


def _yaml(values: Any, flow: bool | None = False) -> str:
    """`flow`: None writes the innermost lists and mappings on one line each."""
    import yaml

    # Without folding, so that no line within a value can look like the end of the YAML.
    return yaml.safe_dump(values, sort_keys=False, width=1_000_000, default_flow_style=flow, allow_unicode=True)


def _section(title: str, lines: Iterator[str] | Sequence[str]) -> str:
    text = "\n".join(lines).strip()
    return f"## {title}\n\n{text}\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _fenced(language: str, text: str) -> str:
    """Return a block of code whose fence is longer than any within."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def _code(text: str) -> str:
    return re.sub(r"[`|\s<>&]+", " ", text).strip()


def _bare(text: str) -> str:
    """`text` without anything but words: MLflow's page shows the YAML as Markdown too."""
    return " ".join(re.sub(r"[^\w.,-]+", " ", text).split())


def _plain(text: str, width: int = 1_000) -> str:
    """`text` as Markdown on one line of at most `width` characters, of which none is markup in Markdown or HTML.

    Entities do what backslashes do not in every dialect.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = re.sub(r"[\\`*_\[\]<>&|#~!:@$^={}\"']", lambda match: f"&#{ord(match[0])};", line)
    return line if len(line) <= width else re.sub(r"&[^;]*$", "", line[: width - 1]) + "\u2026"
