# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The published data sets by name, and where their annotation files lie."""

import difflib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesm_plugin.datasets.charades_cd import CharadesCDDataset
from mesm_plugin.datasets.charades_cg import CharadesCGDataset
from mesm_plugin.datasets.charades_sta import CharadesSTADataset
from mesm_plugin.datasets.grounding_dataset import GroundingDataset
from mesm_plugin.datasets.qvhighlights import QVHighlightsDataset
from mesm_plugin.datasets.tacos import TACoSDataset


@dataclass(frozen=True)
class _Published:
    """What is the same wherever the files lie.

    Attributes:
        title: As the paper writes it.
        reader: Class of the data set.
        files: For each split its annotation files, as arguments of the class.
        vocabularies: Published counts of words, and how many of them are classes of masked language modelling.
        options: Further arguments of the class.
    """

    title: str
    reader: type[GroundingDataset]
    files: dict[str, dict[str, str]]
    vocabularies: dict[str, int]
    options: dict[str, Any] = field(default_factory=dict)


_CLIP, _GLOVE = "CLIP_tokenized_count.txt", "GloVe_tokenized_count.txt"
_PUBLISHED = {
    "charades": _Published(
        "Charades-STA",
        CharadesSTADataset,
        {
            split: {"ann_file": f"charades_sta_{split}.txt", "duration_file": f"Charades_v1_{split}.csv"}
            for split in ("train", "test")
        },
        {_GLOVE: 1111, _CLIP: 1111},
        {"clip_length": 1.0},
    ),
    "charades_cg": _Published(
        "Charades-CG",
        CharadesCGDataset,
        {
            split: {"ann_file": f"{split}.json"}
            for split in ("train", "test_trivial", "novel_composition", "novel_word")
        },
        {_GLOVE: 1111, _CLIP: 1111},
        {"clip_length": 1.0},
    ),
    "charades_cd": _Published(
        "Charades-CD",
        CharadesCDDataset,
        {split: {"ann_file": f"charades_{split}.json"} for split in ("train", "val", "test_iid", "test_ood")},
        {_GLOVE: 1111, _CLIP: 1111},
        {"clip_length": 1.0},
    ),
    "tacos": _Published(
        "TACoS",
        TACoSDataset,
        {split: {"ann_file": f"{split}.json"} for split in ("train", "val", "test")},
        {_GLOVE: 1111, _CLIP: 1111},
        {"clip_length": None},
    ),
    "qvhighlights": _Published(
        "QVHighlights",
        QVHighlightsDataset,
        {split: {"ann_file": f"highlight_{split}_release.jsonl"} for split in ("train", "val", "test")},
        {_CLIP: 5000},
    ),
}
DATASET_NAMES = tuple(_PUBLISHED)


class PublishedDataset:
    """The annotation files of a published data set; features and text encoders are not needed to read them.

    The files are looked for in `ROOT/NAME/annotations`, as docs/data.md lays them out, or where the released MESM code
    has them: the folder may be written otherwise ("Charades-CG"), may hold the files itself, and may be `root`.

    Attributes:
        name: One of `DATASET_NAMES`.
        title: As the paper writes it.
        root: Folder of all data sets.
        folder: Where the annotation files are, or should be.
        splits: Name of each split -> its files, as arguments of the data set's class.
        vocabularies: Published counts of words or tokens, whether they exist or not -> how many of the most frequent
            have a class of their own in masked language modelling.
    """

    def __init__(self, name: str, root: str | os.PathLike[str]) -> None:
        self.name = name
        self._published = _PUBLISHED[name]
        self.title = self._published.title
        self.root = Path(root)
        self.folder = _find_folder(name, self.root)
        self.splits = {
            split: {argument: str(self.folder / file) for argument, file in files.items()}
            for split, files in self._published.files.items()
        }
        self.vocabularies = {str(self.folder / file): size for file, size in self._published.vocabularies.items()}

    def open(self, split: str) -> GroundingDataset:
        """The data set of a split, which can `load_data_list`, but has no features and no text encoder.

        Args:
            split: One of `splits`, "-" and "_" alike, with or without a leading "charades_".

        Raises:
            ValueError: There is no such split.
        """
        known = {_plain(name): files for name, files in self.splits.items()}
        files = known.get(_plain(split)) or known.get(_plain(split).removeprefix("charades"))
        if files is None:
            raise ValueError(f"{self.title} has no split {split!r}, expected one of {', '.join(self.splits)}")
        parts: dict[str, Any] = {"features": None, "text": None, "lazy_init": True, **files}
        return self._published.reader(**parts, **self._published.options)

    def read(self, split: str) -> list[dict[str, Any]]:
        """The videos of a split, as `load_data_list` of its class returns them.

        Returns:
            A dict per video with `vid`, `source`, `duration` in seconds and `queries`: dicts with `qid`, `sentence`
            and, where labelled, `moments`, pairs of start and end in seconds.

        Raises:
            FileNotFoundError: A file does not exist.
            ValueError: There is no such split, or a file is broken; the message names the place.
        """
        return self.open(split).load_data_list()


def published_dataset(name: str, root: str | os.PathLike[str] | None = None) -> PublishedDataset:
    """Finds a published data set by its name.

    Args:
        name: One of `DATASET_NAMES`; upper case, "-", "_", blanks and a trailing "STA" make no difference.
        root: Folder of all data sets; None for that of `data_folder`.

    Raises:
        ValueError: There is no data set of that name.
    """
    known = {_plain(key): key for key in _PUBLISHED}
    plain = _plain(name)
    key = known.get(plain) or known.get(plain.removesuffix("sta"))
    if key is None:
        near = [known[other] for other in known if plain and other.startswith(plain)]
        near = near or [known[match] for match in difflib.get_close_matches(plain, known, n=2)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(_PUBLISHED)}"
        raise ValueError(f"there is no data set {name!r}; {hint}")
    return PublishedDataset(key, data_folder() if root is None else root)


def data_folder() -> str:
    """The folder of all data sets: that of the environment variable MESM_DATA, or `data` where it is unset or empty."""
    return os.environ.get("MESM_DATA") or "data"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _find_folder(name: str, root: Path) -> Path:
    """The first folder that has one of the annotation files; where docs/data.md puts them if none has."""
    files = {file for arguments in _PUBLISHED[name].files.values() for file in arguments.values()}
    usual = root / name / "annotations"
    names = {_plain(name), _plain(name) + "sta"}
    others = sorted(path for path in root.iterdir() if _plain(path.name) in names) if root.is_dir() else []
    candidates = [usual, *(path / "annotations" for path in others), *others, root / "annotations", root]
    return next((folder for folder in candidates if any((folder / file).exists() for file in files)), usual)
