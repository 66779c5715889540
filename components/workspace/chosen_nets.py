"""The feature nets that an evaluation and the gate go by: those that suit the data, or one of the user's choice."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from ..gan.errors import DamagedError, NotThereError, UserError
from .feature_nets import KINDS, load_feature_net, more_feature_nets, real_features

if TYPE_CHECKING:
    from ..gan.dataset import Split
    from ..measures.features import FeatureNet
    from .workspace import Workspace

# A protobuf message has less than 2**31 bytes; with its weights a ViT-L/14 fits. A description is a page at most.
MAX_BYTES, MAX_DESCRIPTION = 2_000_000_000, 65_536
# Real images that samples are compared with, evenly spread over the training split: more say little more.
MAX_REAL = 5_000


class ChosenNets(NamedTuple):
    """The net whose distances count, and the classifier of the data's own classes, None where there are no labels."""

    main: FeatureNet
    classifier: FeatureNet | None

    @property
    def all(self) -> tuple[FeatureNet, ...]:
        """Each of them once, the main one first."""
        return (self.main, self.classifier) if self.classifier and self.classifier is not self.main else (self.main,)


def load_nets(chosen: str, data: Split, content: str, workspace: Workspace) -> ChosenNets:
    """Return the nets for a data set by `evaluate.feature_net`: `auto`, one of `KINDS`, or an ONNX file.

    Raises:
        UserError: there is no such net, or it does not fit the data.
    """
    cache = workspace.state / "features"
    classifier = load_feature_net(data, content, cache, KINDS[0]) if data.image.labelled else None
    if chosen == KINDS[0] and classifier is None:
        raise UserError("evaluate.feature_net: classifier needs images with labels, which these have not")
    if classifier is not None and chosen in ("auto", KINDS[0]):
        return ChosenNets(classifier, classifier)
    if chosen in ("auto", KINDS[1]):
        return ChosenNets(load_feature_net(data, content, cache, KINDS[1]), classifier)
    return ChosenNets(_own_net(workspace.root / chosen, data, content, cache), classifier)


def nets_of_other_seeds(
    nets: ChosenNets, data: Split, content: str, workspace: Workspace, count: int
) -> list[FeatureNet]:
    """Return `count` nets that differ from the main one by their seed alone; none where nobody trained it here."""
    if nets.main is not nets.classifier:
        return []
    return more_feature_nets(data, content, workspace.state / "features", count)


def hash_of_file(chosen: str, workspace: Workspace) -> str:
    """Return the hash of the user's own net and its description.

    Raises:
        UserError: one of the two files is missing or too large.
    """
    return _hash(*_files(workspace.root / chosen))


def _own_net(file: Path, data: Split, content: str, cache: Path) -> FeatureNet:
    """Return the net in `file`.

    Raises:
        UserError: it is missing or too large, cannot be run, or its description is not right.
    """
    from ..measures.features import FeatureNet
    from ..measures.onnx_net import OnnxDescription, OnnxNet

    net, described = _files(file)
    sha256 = _hash(net, described)
    try:
        description = OnnxDescription.model_validate_json(described)
        made = OnnxNet(net, description)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the description"
        raise UserError(f"{file.with_suffix('.json')}: {place}: {first['msg']}") from None
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    # A file that anyone may have made carries its hash, whatever it calls itself.
    name = f"{description.name}-{sha256[:8]}"
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"{stem_of_own(sha256, content)}.npy"
    return FeatureNet(name, made, sha256, real_features(made, data, kept, MAX_REAL))


def stem_of_own(sha256: str, content: str) -> str:
    """Name, without suffix, of what is kept of a data set as the user's own net with this hash sees it."""
    return f"own-{hashlib.sha256(f'{content} {sha256}'.encode()).hexdigest()[:16]}"


def _files(file: Path) -> tuple[bytes, bytes]:
    """Read a net and its description.

    Raises:
        UserError: one is missing or too large.
    """
    beside = file.with_suffix(".json")
    read = []
    for path, most in ((file, MAX_BYTES), (beside, MAX_DESCRIPTION)):
        try:
            with path.open("rb") as opened:
                content = opened.read(most + 1)
        except OSError as error:
            words = f"evaluate.feature_net: cannot read {path} ({error.strerror}); {beside.name} describes {file.name}"
            raise NotThereError(words) from None
        if len(content) > most:
            raise DamagedError(f"evaluate.feature_net: {path} has more than {most:,} bytes")
        read.append(content)
    return read[0], read[1]


def _hash(net: bytes, described: bytes) -> str:
    return hashlib.sha256(hashlib.sha256(net).digest() + hashlib.sha256(described).digest()).hexdigest()
