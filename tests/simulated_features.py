# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A folder of simulated features as the simulator writes it, tiny."""

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

WORDS = ["person", "opens", "closes", "the", "a", "door", "box", "light", "runs", "sits"]
VIDEOS = {"train": [f"TR{i}" for i in range(6)], "test": ["TE0", "TE1", "TE2"]}


def write_features(folder: Path, dataset: str, videos: list[str], dims: int = 8) -> None:
    """Features, word vectors and meta.json."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with h5py.File(folder / "features.hdf5", "w") as file:
        for video in videos:
            file[video] = rng.standard_normal((8, dims)).astype(np.float16)
    lines = [f"{word} {' '.join(f'{x:.3f}' for x in rng.standard_normal(6))}\n" for word in WORDS]
    (folder / "glove.sim.txt").write_text("".join(lines))
    arguments = {"dataset": dataset, "clip_len": 1.0, "annotations": "gone"}
    (folder / "meta.json").write_text(json.dumps({"simulated": True, "arguments": arguments}))


def write_charades(folder: Path, further: Sequence[str] = ()) -> None:
    """Annotations of Charades-STA, of further training videos than those with features."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for split, videos in VIDEOS.items():
        every = [*videos, *further] if split == "train" else videos
        lines = [f"{v} {s}.0 {s + 3}.0##{' '.join(rng.choice(WORDS, 4))}." for v in every for s in (0, 4)]
        (folder / f"charades_sta_{split}.txt").write_text("\n".join(lines) + "\n")
        rows = ["id,length", *(f"{video},8.0" for video in every)]
        (folder / f"Charades_v1_{split}.csv").write_text("\n".join(rows) + "\n")


def write_cg(folder: Path) -> None:
    """Annotations of Charades-CG, the test splits on the same videos."""
    folder.mkdir(parents=True, exist_ok=True)
    entry = {"duration": 8.0, "timestamps": [[0, 3], [4, 7]], "sentences": ["person opens the door", "a person sits"]}
    for split in ("train", "test_trivial", "novel_composition", "novel_word"):
        videos = VIDEOS["train" if split == "train" else "test"]
        (folder / f"{split}.json").write_text(json.dumps(dict.fromkeys(videos, entry)))


def write_qvhighlights(folder: Path) -> list[str]:
    """Annotations of QVHighlights; returns the videos."""
    folder.mkdir(parents=True, exist_ok=True)
    videos, qid = [], 0
    for split, sources in (("train", 4), ("val", 2), ("test", 2)):
        lines = []
        for source in range(sources):
            vid = f"{split}{source}_0.0_16.0"
            videos.append(vid)
            record = {"qid": qid, "query": "person opens the door", "duration": 16, "vid": vid}
            if split != "test":
                record |= {"relevant_windows": [[0, 4]], "relevant_clip_ids": [0, 1]}
                record["saliency_scores"] = [[1, 2, 3], [4, 4, 4]]
            lines.append(json.dumps(record) + "\n")
            qid += 1
        (folder / f"highlight_{split}_release.jsonl").write_text("".join(lines))
    return videos


def write_simulated(root: Path) -> Path:
    """Folders of simulated features of Charades-STA and QVHighlights, with annotations, those of Charades-CG too."""
    write_features(root / "charades", "charades", [*VIDEOS["train"], *VIDEOS["test"]])
    write_charades(root / "charades" / "annotations")
    counts = "".join(f"{word} {rank + 2} 1\n" for rank, word in enumerate(WORDS))
    (root / "charades" / "annotations" / "GloVe_tokenized_count.txt").write_text(counts)
    write_cg(root / "charades_cg" / "annotations")
    write_features(root / "QVHighlights", "qvhighlights", write_qvhighlights(root / "QVHighlights" / "annotations"))
    return root
