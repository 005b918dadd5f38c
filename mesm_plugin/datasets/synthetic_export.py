# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The synthetic data set as files in the formats of real data."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mesm_plugin.datasets.synthetic import SyntheticFeatures
from mesm_plugin.datasets.synthetic_script import Script, write_script
from mesm_plugin.datasets.text.synthetic_text import synthetic_word_vectors
from mesm_plugin.datasets.text.words import split_words
from mesm_plugin.utils import atomic_file


def export_synthetic(
    out_dir: str | Path,
    num_videos: dict[str, int],
    *,
    seed: int = 0,
    feature_dim: int = 128,
    word_dim: int = 64,
    noise: float = 0.7,
    background: float = 0.3,
) -> None:
    """Writes splits of the synthetic data set in the formats of Charades-STA and GloVe.

    `CharadesSTADataset` on these files gives the items of `SyntheticDataset` with the same arguments. The files are
    `charades_sta_SPLIT.txt` and `Charades_v1_SPLIT.csv` per split, and `features.hdf5`, `glove.txt` and
    `GloVe_tokenized_count.txt` of all splits.

    Args:
        out_dir: Folder to write to; made if it is missing.
        num_videos: Number of videos per split, such as `{"train": 64, "test": 16}`.
        seed, feature_dim, word_dim, noise, background: See `SyntheticDataset`.
    """
    folder = Path(out_dir)
    scripts = {
        split: [write_script(seed, split, index) for index in range(count)] for split, count in num_videos.items()
    }
    for split, videos in scripts.items():
        _write_text(folder / f"charades_sta_{split}.txt", _annotations(videos))
        durations = [f"{script.vid},{script.duration}" for script in videos]
        _write_text(folder / f"Charades_v1_{split}.csv", ["id,length", *durations])

    vectors = synthetic_word_vectors(seed, word_dim)
    # Nine digits give back the same float32.
    lines = [" ".join([word, *(f"{value:.9g}" for value in vector)]) for word, vector in vectors.items()]
    _write_text(folder / "glove.txt", lines)

    counts = Counter(
        word
        for videos in scripts.values()
        for script in videos
        for sentence, _ in script.queries
        for word in split_words(sentence)
    )
    ids = {word: number for number, word in enumerate(sorted(counts), 2)}
    by_count = sorted(counts, key=lambda word: (-counts[word], word))
    _write_text(folder / "GloVe_tokenized_count.txt", [f"{word} {ids[word]} {counts[word]}" for word in by_count])

    store = SyntheticFeatures(seed, feature_dim, word_dim, noise, background, normalize=False)
    _write_features(folder / "features.hdf5", store, scripts)


def _annotations(videos: Sequence[Script]) -> list[str]:
    return [
        f"{script.vid} {event.start} {event.end}##{sentence}" for script in videos for sentence, event in script.queries
    ]


def _write_features(path: Path, store: SyntheticFeatures, scripts: dict[str, list[Script]]) -> None:
    import h5py

    with atomic_file(path) as unfinished, h5py.File(unfinished, "w") as file:
        for videos in scripts.values():
            for script in videos:
                file.create_dataset(script.vid, data=store[script.vid])


def _write_text(path: Path, lines: Sequence[str]) -> None:
    with atomic_file(path) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
