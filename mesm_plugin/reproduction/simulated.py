# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Simulated features in place of a row's own.

A folder of simulated features holds `meta.json` with `"simulated": true`, `features.hdf5`, `glove.sim.txt` and, if they
are not the ones that `meta.json` names, the annotations in `annotations/` (docs/simulated_charades.md).
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
from mmengine.config import Config

from mesm_plugin.utils import read_json

META, FEATURES, WORDS, COUNTS = "meta.json", "features.hdf5", "glove.sim.txt", "GloVe_tokenized_count.txt"
NAMES = {
    "CharadesSTADataset": ("charades", "charades_sta"),
    "CharadesCGDataset": ("charades_cg", "charades", "charades_sta"),
    "TACoSDataset": ("tacos",),
    "QVHighlightsDataset": ("qvhighlights",),
}
"""Folders in which the features of a data set may lie; Charades-CG has the videos of Charades-STA."""
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@dataclass(frozen=True)
class SimulatedFeatures:
    """A folder of simulated features.

    Attributes:
        folder: The folder.
        root: What the user named, the folder itself or one with folders of several data sets.
        arguments: Those that the simulator was given.
    """

    folder: Path
    root: Path
    arguments: dict[str, Any]


def find_simulated(root: Path, dataset: str) -> SimulatedFeatures | None:
    """The simulated features of a data set in a folder, or in a folder of it with the name of the data set.

    Args:
        root: The folder.
        dataset: Type of the data set.

    Raises:
        ValueError: If `meta.json` is damaged, or the features are those of another data set.
    """
    found = _described(root, root)
    if found is not None:
        made_for = str(found.arguments.get("dataset"))
        if _plain(made_for) not in map(_plain, NAMES[dataset]):
            raise ValueError(
                f"{root / META}: the simulated features are of {made_for!r}, expected {NAMES[dataset][0]!r}"
            )
        return found
    folders = {_plain(path.name): path for path in sorted(root.iterdir()) if path.is_dir()}
    candidates = (folders[name] for name in map(_plain, NAMES[dataset]) if name in folders)
    return next((found for folder in candidates if (found := _described(folder, root)) is not None), None)


@dataclass(frozen=True)
class Substitution:
    """What takes the place of a row's own data beside the features.

    Attributes:
        notes: Which annotations were left out, in words.
        files: Files that the config names and that are still to be written, with their content.
    """

    notes: list[str]
    files: dict[Path, str]


def use_simulated(config: Config, simulated: SimulatedFeatures, prepared: Path) -> Substitution:
    """Puts simulated features and word vectors in place of those of a config, in place.

    Widths are those of the files. Annotations of videos that have no simulated features are left out.

    Args:
        config: The config of a row.
        simulated: The features.
        prepared: Folder for the remaining annotations.

    Raises:
        FileNotFoundError: If features, word vectors or annotations are missing.
        ValueError: If one of these files is damaged, or no video of a split has features.
    """
    features, words = simulated.folder / FEATURES, simulated.folder / WORDS
    for file in (features, words):
        if not file.is_file():
            raise FileNotFoundError(f"{file} not found, expected beside {simulated.folder / META}")
    videos, dims = _videos(features)
    text_dims = _word_dims(words)
    files = _files(config)
    origin = _annotation_folder(simulated, files)
    result = Substitution([], {})
    chosen = {file: _remaining(origin / file, videos, prepared, result) for file in sorted(files)}
    counts = _counts(origin, simulated, prepared, result)
    clip_length = simulated.arguments.get("clip_len")
    vocabulary_size = 0
    for loader in LOADERS:
        config[loader].num_workers = 0
        config[loader].pop("persistent_workers", None)
        dataset = config[loader].dataset
        text = dataset.text
        vocabulary_size = text.get("vocabulary_size", vocabulary_size)
        dataset.features = {"type": "HDF5FeatureStore", "files": [str(features)], "dims": [dims]}
        dataset.text = {"type": "GloVeText", "file": str(words), "max_words": text.max_words}
        if "vocabulary" in text:
            dataset.text.update(vocabulary=str(counts), vocabulary_size=vocabulary_size, weighting="content_words")
        if dataset.clip_length is not None:
            dataset.clip_length = clip_length
        for key in ("ann_file", "duration_file"):
            if key in dataset:
                named = dataset[key]
                moved = [chosen[Path(file).name] for file in ([named] if isinstance(named, str) else named)]
                dataset[key] = moved[0] if isinstance(named, str) else moved
    model = config.model
    model.video_dims, model.text_dims = dims + 2, text_dims
    frame_word = (model.get("aligner") or {}).get("frame_word")
    if frame_word:
        frame_word.num_word_classes = vocabulary_size + 1
        frame_word.token_dims = text_dims
    if model.post_process.get("round_to") is not None:
        model.post_process.round_to = clip_length
    return result


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _described(folder: Path, root: Path) -> SimulatedFeatures | None:
    file = folder / META
    if not file.is_file():
        return None
    meta = read_json(file, "make the simulated features again")
    if not isinstance(meta, dict) or meta.get("simulated") is not True:
        return None
    arguments = meta.get("arguments")
    if not isinstance(arguments, dict) or not {"dataset", "clip_len"} <= arguments.keys():
        raise ValueError(f"{file}: expected 'arguments' with 'dataset' and 'clip_len'; make the features again")
    return SimulatedFeatures(folder, root, arguments)


def _videos(file: Path) -> tuple[set[str], int]:
    try:
        with h5py.File(file) as content:
            videos = set(content)
            shape = tuple[int, ...](getattr(content[next(iter(content))], "shape", ()) if videos else ())
    except OSError as error:
        raise ValueError(f"{file} cannot be read as HDF5 ({error}); make the simulated features again") from error
    if len(shape) != 2:
        raise ValueError(f"{file}: expected one data set (clips, channels) per video, got shape {shape}")
    return videos, int(shape[1])


def _word_dims(file: Path) -> int:
    with file.open(encoding="utf-8") as lines:
        return len(lines.readline().split()) - 1


def _files(config: Config) -> set[str]:
    """Names of all annotation files of a config."""
    names: set[str] = set()
    for loader in LOADERS:
        for key in ("ann_file", "duration_file"):
            named = config[loader].dataset.get(key, [])
            names |= {Path(file).name for file in ([named] if isinstance(named, str) else named)}
    if config.train_dataloader.dataset.type == "QVHighlightsDataset":
        names.add("highlight_test_release.jsonl")
    return names


def _annotation_folder(simulated: SimulatedFeatures, files: Iterable[str]) -> Path:
    """The folder with all annotation files: beside the features, or else the one that the simulator read."""
    official = Path(str(simulated.arguments.get("annotations", "")))
    folders = [simulated.folder / "annotations", simulated.folder, simulated.folder / "annotations" / "charades_cg"]
    for parent, name in ((simulated.root, "charades_cg"), (simulated.root.parent, "charades_cg"), (official, "")):
        folders += [parent / name / "annotations", parent / name]
    if official.parent.is_dir():
        folders += [path for path in sorted(official.parent.iterdir()) if _plain(path.name) == "charadescg"]
    for folder in folders:
        if all((folder / file).is_file() for file in files):
            return folder
    searched = ", ".join(map(str, dict.fromkeys(folders)))
    raise FileNotFoundError(f"annotations {', '.join(sorted(files))} not found together in any of {searched}")


def _remaining(file: Path, videos: set[str], prepared: Path, result: Substitution) -> str:
    """The file with the annotations of the videos with features alone, which is added to `result` if it is another."""
    if file.suffix == ".csv":
        return str(file)
    text = file.read_text(encoding="utf-8")
    try:
        if file.suffix == ".json":
            entries = json.loads(text)
            kept = {video: entry for video, entry in entries.items() if video in videos}
            left, total, content = len(kept), len(entries), json.dumps(kept)
        else:
            video_of: Callable[[str], str] = (
                (lambda line: json.loads(line)["vid"])
                if file.suffix == ".jsonl"
                else (lambda line: line.split(" ", 1)[0])
            )
            lines = [line for line in text.splitlines() if line.strip()]
            remaining = [line for line in lines if video_of(line) in videos]
            left, total, content = len(remaining), len(lines), "".join(f"{line}\n" for line in remaining)
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{file}: not the published annotations ({error})") from error
    if left == total:
        return str(file)
    if not left:
        raise ValueError(f"{file}: none of its videos has simulated features")
    what = "videos" if file.suffix == ".json" else "queries"
    result.notes.append(f"{file.name}: {left} of {total} {what}, those with simulated features")
    result.files[prepared / file.name] = content
    return str(prepared / file.name)


def _counts(origin: Path, simulated: SimulatedFeatures, prepared: Path, result: Substitution) -> Path:
    """The classes of words: as published or counted, or else in the order of the word vectors, most frequent first."""
    for folder in (simulated.folder / "annotations", origin):
        if (folder / COUNTS).is_file():
            return folder / COUNTS
    with (simulated.folder / WORDS).open(encoding="utf-8") as lines:
        words = [line.split(" ", 1)[0] for line in lines]
    # The counts themselves are not known, and nothing reads them.
    result.files[prepared / COUNTS] = "".join(f"{word} {rank + 2} 0\n" for rank, word in enumerate(words))
    return prepared / COUNTS
