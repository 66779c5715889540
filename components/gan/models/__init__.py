"""One file for each network family. `options.NetworkOptions` is the list of them.

A generator is called as `generator(z, label, condition)` and returns images in [-1, 1], a discriminator as
`discriminator(image, label, condition)` and returns logits. `label` is ignored by unconditional networks and
`condition` (the input image of image-to-image tasks) by those that only generate.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class Networks(NamedTuple):
    generator: nn.Module
    discriminator: nn.Module
