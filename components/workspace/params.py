"""The schema of `params.yaml`: one section for each stage, in the order of the file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, PositiveInt, ValidationError, model_validator

from ..gan.errors import NotThereError, UserError
from ..gan.network_options import Size, network_class
from ..gan.options import AddedWith, Options, TrainingOptions
from ..pictures.finishing import FinishingStep
from .params_errors import sentence_of
from .params_file import set_value
from .presets import Preset
from .text import printable, shortened
from .yaml_text import read_yaml

# As far as JSON counts in whole numbers everywhere; of more than 64 bits no generator of random numbers takes any.
MAX_SEED = 2**53 - 1
Side = Annotated[int, Field(ge=8, le=1024)]
# With a password in it, a place would be written down wherever parameters are.
_SECRETS = ("pass", "pwd", "token", "secret", "key", "sig", "credential")
# In any case; Prefect's form knows no flag for that.
_ANY_CASE = "|".join("".join(f"[{letter.upper()}{letter}]" for letter in word) for word in _SECRETS)
_NO_PASSWORD = rf"^(?!.*(://[^@\s]*:\S*@|[?&][^=&]*({_ANY_CASE})[^=&]*=))"


def _without_password(place: str) -> str:
    if printable(place) != place:
        raise ValueError("it has characters that cannot be shown, which the name of no folder or bucket has")
    if not re.search(_NO_PASSWORD, place):
        raise ValueError("a password does not belong here: keys are read from AWS_* variables alone")
    return place


# The pattern is for Prefect's form, which refuses before anything is stored; pydantic's own message would quote it.
Place = Annotated[str, AfterValidator(_without_password), Field(json_schema_extra={"pattern": _NO_PASSWORD})]


class Limits(Options):
    """What raw data may hold at most; what is beyond a limit is rejected, on every machine alike."""

    file_bytes: Annotated[PositiveInt, AddedWith(536_870_912)] = Field(
        512 * 2**20, description="of one image's file, also within an archive or a table"
    )
    pixels: Annotated[PositiveInt, AddedWith(89_478_485)] = Field(
        89_478_485, description="of one picture, whatever its shape"
    )
    pixels_per_byte: Annotated[PositiveInt, AddedWith(10_000)] = Field(
        10_000, description="of a picture's file, from a million pixels on; of an animation all frames together"
    )
    channels: Annotated[PositiveInt, AddedWith(64)] = Field(64, description="of an array")
    frames: Annotated[PositiveInt, AddedWith(1_000)] = Field(
        1_000, description="of one file that are used, with frames: all"
    )
    growth: Annotated[PositiveInt, AddedWith(200)] = Field(
        200, description="how many times larger packed data may become, from a mebibyte on"
    )
    entries: Annotated[PositiveInt, AddedWith(5_000_000)] = Field(
        5_000_000, description="files, entries of archives and rows of tables, in all"
    )
    depth: Annotated[PositiveInt, AddedWith(100)] = Field(100, description="folders within folders")
    label_length: Annotated[PositiveInt, AddedWith(200)] = Field(200, description="letters of a class's name")


class Preprocess(Options):
    """Raw images -> data set."""

    resolution: Side | tuple[Side, Side] = Field(
        28, description="height and width of the images in pixels; [height, width] where they differ"
    )
    fit: Literal["crop", "pad", "stretch", "patches"] = Field(
        "crop",
        description="how other shapes are made to fit: the centre cut out, bars added, distorted, or cut into patches "
        "of the resolution without any scaling",
    )
    patches_per_file: Annotated[PositiveInt, AddedWith(64)] = Field(
        64, description="patches at most of one photo, drawn evenly by its hash"
    )
    reduce: Annotated[int, AddedWith(1)] = Field(
        1, ge=1, le=16, description="how many times smaller photos are made before patches are cut from them"
    )
    channels: Literal["auto"] | PositiveInt = Field(
        "auto", description="1 grey, 3 RGB, 4 RGBA; auto: grey or RGB by the images, of arrays as many as they have"
    )
    bits: Annotated[Literal["auto"] | Annotated[int, Field(ge=8, le=16)], AddedWith("auto")] = Field(
        "auto",
        description="how many bits images of 16 use; auto: as many as the largest value of all needs, if that is 14 or "
        "fewer, as of 12-bit cameras",
    )
    background: Literal["white", "black"] = Field("white", description="behind transparent pixels, and of added bars")
    frames: Literal["first", "all"] = Field("first", description="which images of an animation or of many pages")
    input: Annotated[str | None, Field(min_length=1, max_length=200), AddedWith(None)] = Field(
        None,
        description="of pictures in pairs, the input: left or right, the half of each picture that it is; or the name "
        "of the folder or column that holds it; null: no pairs",
    )
    holdout: float = Field(0.2, gt=0, lt=1, description="share of the images that training never sees")
    development: Annotated[float, AddedWith(0.05)] = Field(
        0.05, ge=0, lt=1, description="share of the rest by which checkpoints and sweeps are judged, not trained on"
    )
    near_duplicates: Annotated[bool, AddedWith(True)] = Field(
        True, description="find images that are nearly the same, and keep each group of them on one side"
    )
    hidden_pairs: Annotated[bool, AddedWith(False)] = Field(
        False,
        description="pictures of equal names in several classes show the same: they stand on one side, and restyle is "
        "measured by them, while training is not told which belong together",
    )
    min_class_images: Annotated[int, AddedWith(1)] = Field(
        1, ge=1, description="classes with fewer distinct images are left out"
    )
    max_rejected: float = Field(0.01, ge=0, le=1, description="share of unreadable files above which to stop")
    heic: Annotated[bool, AddedWith(False)] = Field(False, description="read HEIC, by the package of the extra `heic`")
    source: Annotated[Literal["auto", "folders", "archives", "table", "idx", "all"], AddedWith("auto")] = Field(
        "auto", description="which images are used where data are of several kinds, which auto refuses"
    )
    labels: Annotated[Literal["auto", "folders", "innermost", "names", "table", "none"], AddedWith("auto")] = Field(
        "auto",
        description="what tells the class: the first folder or the innermost, the beginning of the file's name, a "
        "table; auto: as such data are commonly laid out, which is said",
    )
    splits: Annotated[Literal["auto", "none"], AddedWith("auto")] = Field(
        "auto", description="none: folders, files and columns called train, test and the like state no splits"
    )
    strict: Annotated[bool, AddedWith(False)] = Field(
        False, description="refuse data of which labels or pictures are not used, or that can be read in two ways"
    )
    follow_links: Annotated[bool, AddedWith(False)] = Field(
        False, description="read what links in the data point to, wherever that is"
    )
    limits: Annotated[Limits, AddedWith({})] = Field(
        Limits(), description="what raw data may hold at most; beyond it, they are rejected"
    )

    @model_validator(mode="after")
    def _cuts_single_pictures(self) -> Self:
        if self.fit == "patches" and self.frames == "all":
            raise ValueError("fit: patches cuts one picture of each file: set frames to first")
        if self.input is not None and self.frames == "all":
            raise ValueError("input pairs one picture of each file: set frames to first")
        if self.hidden_pairs and (self.input is not None or self.fit == "patches" or self.frames == "all"):
            raise ValueError(
                "hidden_pairs are whole pictures of several classes: leave input out, set fit to crop, pad or stretch, "
                "and frames to first"
            )
        if self.fit != "patches" and self.reduce > 1:
            raise ValueError(
                f"reduce is for fit: patches, and fit: {self.fit} scales to the resolution as it is: set it to 1"
            )
        return self

    @property
    def halves(self) -> bool:
        """Whether each picture is a pair side by side."""
        return self.input in ("left", "right")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.resolution, self.resolution) if isinstance(self.resolution, int) else self.resolution


class Elastic(Options):
    """As many workers as find room: fewer when a node goes, more when one comes, at a constant global batch."""

    min: PositiveInt = 1
    max: PositiveInt

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError("min is more than max")
        return self


class Resources(Options):
    """Where a training runs, which changes how long it takes and, by the number of workers, its last bits."""

    workers: Literal["auto"] | PositiveInt | Elastic = Field(
        "auto",
        description="training processes; auto: one for each GPU, else one for each machine with all its cores; "
        "{min: 1, max: 4}: as many as find room, while nodes come and go",
    )
    storage: Place | None = Field(
        None,
        description="for a cluster that shares no disk: s3://bucket/prefix, where data and training state travel",
    )

    @property
    def wanted_workers(self) -> int | Literal["auto"] | tuple[int, int]:
        """How many, or at least and at most how many."""
        return (self.workers.min, self.workers.max) if isinstance(self.workers, Elastic) else self.workers


class Train(Resources, TrainingOptions):
    """Data set -> model. In the file both parts stand side by side: the loop's options, and where it runs."""

    # Not by `TrainingOptions`, which also describes models of other versions.
    seed: int = Field(0, ge=0, le=MAX_SEED, description=TrainingOptions.model_fields["seed"].description)
    size: Size | None = Field(
        None, description="width and depth of the network in one word, for whatever network.* does not name"
    )

    @model_validator(mode="after")
    def _adapts_by_a_boundary(self) -> Self:
        # Not by `TrainingOptions`, which also describes models that were trained so.
        if self.ada and self.ada.probability == "adaptive" and self.loss in ("relativistic", "wasserstein"):
            raise ValueError(
                f"ada.probability: adaptive needs a loss whose logits have a boundary, which {self.loss} has not: "
                "give it a number such as 0.3, or a schedule"
            )
        return self

    @model_validator(mode="after")
    def _has_filters_to_be_orthogonal(self) -> Self:
        # Not by `TrainingOptions` either: it was accepted, and was without effect.
        if self.orthogonal_weight and self.network.name == "stylegan2":
            raise ValueError(
                "orthogonal_weight needs a network whose filters are used as they are, and stylegan2 scales its own "
                "for each image: set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _makes_the_classes_that_are_sampled(self) -> Self:
        if self.sampling == "balanced" and self.task.name == "generate" and not self.network.conditional:
            raise ValueError(
                "sampling: balanced needs a network that is told the class, or it would make all classes equally "
                "often, which no score expects: set network.conditional to true, or sampling to natural"
            )
        return self

    @cached_property
    def loop(self) -> TrainingOptions:
        """The loop's own options."""
        return TrainingOptions(**{name: getattr(self, name) for name in TrainingOptions.model_fields})

    @property
    def hashed(self) -> dict[str, Any]:
        """Where the state lies changes no result, and the size stands in the network."""
        return self.loop.hashed | {"workers": self.model_dump(mode="json")["workers"]}

    @model_validator(mode="before")
    @classmethod
    def _sized(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("size") not in get_args(Size):
            return values
        chosen = network_class(values)
        network = values.get("network", {"name": chosen.model_fields["name"].default})
        if isinstance(network, dict):
            network = {**chosen.sizes[values["size"]], **network}
        return {**values, "network": network}


class Evaluate(Options):
    """Model and data set -> metrics and the samples they were measured on."""

    samples: int = Field(8_000, ge=100, description="images generated and measured")
    copy_checks: PositiveInt = Field(500, description="samples compared with their nearest training image")
    seed: int = Field(1_000_000, ge=0, le=MAX_SEED, description="of the first sample; each next one has the next seed")
    full: bool = Field(
        False,
        description="also train a classifier on the samples, look for training images among all that can be made, and "
        "measure samples at each truncation",
    )
    feature_net: Annotated[
        Literal["auto", "classifier", "efficientnet_lite0"] | Annotated[str, Field(pattern=r"\.onnx$")],
        AddedWith("auto"),
    ] = Field(
        "auto",
        description="in whose features distances are measured; auto: a classifier of the data's own classes, without "
        "labels EfficientNet-Lite0; FILE.onnx: a net of your own, described by FILE.json",
    )

    @property
    def hashed(self) -> dict[str, Any]:
        """A file counts by its content, which is hashed among the inputs, and not by its place."""
        return super().hashed | ({"feature_net": "file"} if self.feature_net.endswith(".onnx") else {})


class Postprocess(Options):
    """Samples -> finished images and the report."""

    images: PositiveInt = Field(200, description="samples taken, spread over the classes, before they are curated")
    steps: tuple[FinishingStep, ...] = Field((), description="applied in this order")
    interpolation_frames: int = Field(
        48, ge=0, le=600, description="frames of the animated walk between latents; 0: none"
    )


class Register(Options):
    """Model -> a version in the registry."""

    name: str = Field("ganflow", pattern=r"^[A-Za-z0-9 ._-]+$", description="name of the registered model")


class Promote(Options):
    """Challenger against champion: what it takes to take its place."""

    margin: float = Field(
        0.1,
        ge=0,
        description="of the champion's KID: by how much the challenger's must be lower, for two "
        "trainings of one recipe differ too",
    )
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="chance of taking luck for an improvement, over all looks together"
    )
    samples: int = Field(
        16_000, ge=100, le=1_000_000, description="images of challenger and champion each, made for the comparison"
    )
    feature_nets: int = Field(
        3,
        ge=1,
        le=50,
        description="classifiers, trained from different seeds, whose KIDs are averaged; with one nothing is known "
        "of what another would say",
    )
    max_copied: float = Field(0.05, ge=0, le=1, description="share of samples that may repeat a training image")
    min_distinct: float = Field(0.9, ge=0, le=1, description="share of samples that must differ from all others")
    min_class_share: float = Field(
        0.25, ge=0, le=1, description="how often each class must come, compared with real images"
    )
    min_recall: float = Field(0.05, ge=0, le=1, description="recall that is needed, compared with real images")
    keep_recall: float = Field(0.5, ge=0, le=1, description="recall that is needed, compared with the champion's")
    min_unseen: int = Field(
        200, ge=2, description="held-out images that neither has seen, to compare on; of fewer than twice so many half"
    )
    perceptual_margin: float = Field(
        0.0,
        ge=0,
        description="of image tasks, in place of margin: by how much of the champion's perceptual distance the "
        "challenger's must be lower",
    )
    max_psnr_loss: float = Field(0.3, ge=0, description="of image tasks: dB by which PSNR may be below the champion's")
    max_known_changed: float = Field(
        0.0, ge=0, le=1, description="of image tasks: share of the pixels that were to stay as they are that may change"
    )
    min_unseen_files: int = Field(
        20, ge=2, description="of image tasks: held-out files that neither has seen, below which the gate abstains"
    )


class Retrain(Options):
    """On a schedule: new data or parameters -> a challenger."""

    inbox: Place | None = Field(
        None, description="folder or s3://bucket/prefix whose new files become part of data/; none: data/ as it is"
    )
    notify: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="Prefect notification block that is told of every end of a scheduled run, "
        "type/name such as slack-webhook/ops",
    )


class Drift(Options):
    """Newly arrived images against those that the champion was trained on."""

    min_images: int = Field(50, ge=20, description="fewer new images than that are not judged yet")
    max_images: int = Field(500, ge=20, description="of more than that so many are drawn")
    false_alarms: float = Field(1.0, gt=0, description="alarms without drift to be expected in so many ticks")
    ticks: int = Field(365, ge=1, description="ticks of the schedule that this budget is for")


class Apply(Options):
    """Photos that a model of an image task is applied to."""

    inbox: Place | None = Field(
        None, description="folder or s3://bucket/prefix whose new photos `ganflow apply` takes where none are named"
    )
    out: Place = Field("applied", description="folder or s3://bucket/prefix for the results of the inbox's photos")
    max_input_pixels: PositiveInt = Field(89_478_485, description="of a photo; larger ones are refused")
    max_output_pixels: PositiveInt = Field(400_000_000, description="of a result, for which memory is taken")
    window: int = Field(
        256,
        ge=16,
        le=4096,
        description="side of what is made at a time, in pixels of the photo",
    )


class Clean(Options):
    """What is no longer needed."""

    keep_days: float = Field(7, ge=0, description="what is younger than that stays")


with warnings.catch_warnings():
    # Every class has a `register` from abc.ABCMeta; as a field it hides nothing that is used.
    warnings.filterwarnings("ignore", message='Field name "register"', category=UserWarning)

    class Params(Options):
        """All parameters; a missing key has its default, an unknown one is an error."""

        preprocess: Preprocess = Preprocess()
        train: Train = Train()
        evaluate: Evaluate = Evaluate()
        postprocess: Postprocess = Postprocess()
        register: Register = Register()
        promote: Promote = Promote()
        retrain: Retrain = Retrain()
        drift: Drift = Drift()
        apply: Apply = Apply()
        clean: Clean = Clean()

        @model_validator(mode="after")
        def _finishes_what_is_made_from_noise(self) -> Self:
            if self.postprocess.steps and self.train.task.name != "generate":
                raise ValueError(
                    "postprocess.steps finish images that are made from noise, and would hide what a model of the task "
                    f"{self.train.task.name} makes: set them to []"
                )
            return self

        @model_validator(mode="after")
        def _colours_whole_pictures(self) -> Self:
            if self.train.task.name == "colorize" and self.preprocess.fit == "patches":
                raise ValueError(
                    "colours cannot be told from pieces of photos, where grey may be sky or stone: set "
                    "preprocess.fit to crop, and preprocess.resolution to the size at which photos are coloured"
                )
            return self

        @classmethod
        def load(cls, path: Path, overrides: Sequence[str] = (), preset: Preset | None = None) -> Self:
            """Parameters from the YAML file `path`, changed by `overrides` such as `train.images=64000`.

            A `preset` takes the place of the file's section `train` and of the keys of `preprocess` that it needs, and
            overrides change the preset.

            Raises:
                UserError: the file cannot be read, or a key or value is not allowed.
            """
            if not path.exists():
                raise NotThereError(f"there is no {path}: run ganflow in a workspace, or name one by --workspace")
            try:
                values = read_yaml(path.read_text()) or {}
            except ValueError as error:
                raise UserError(f"{path} is not valid YAML: {shortened(' '.join(str(error).split()))}") from None
            if not isinstance(values, dict):
                raise UserError(f"{path} must hold the sections {', '.join(cls.model_fields)}")
            if preset is not None:
                values["preprocess"] = {**(values.get("preprocess") or {}), **preset.preprocess}
                values["train"] = dict(preset.train)
            for override in overrides:
                set_value(values, override)
            try:
                return cls.model_validate(values)
            except ValidationError as error:
                raise UserError(f"{path.name}: {sentence_of(cls, error)}") from None
