# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Files of text: annotations, durations, word vectors, vocabularies, configs, submissions, records of runs."""

import gzip
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mesm_plugin.apis.score_files import score_files
from mesm_plugin.datasets import (
    CharadesCDDataset,
    CharadesCGDataset,
    CharadesSTADataset,
    GloVeText,
    QVHighlightsDataset,
    TACoSDataset,
    Vocabulary,
)
from mesm_plugin.datasets.text.byte_pair import BytePairTokenizer
from mesm_plugin.datasets.text.token_classes import TokenClasses
from mesm_plugin.engine.config_checking import check_config
from mesm_plugin.engine.config_loading import read_config
from mesm_plugin.engine.run_comparison import differing_settings, group_runs, read_run
from tests.fuzz.file_kind import FileKind
from tests.fuzz.mutations import mutated_json, mutated_text

NO_PARTS: dict[str, Any] = {"features": None, "text": None, "lazy_init": True}


def _writer(name: str, content: Any, **others: str) -> Callable[[Path], Path]:
    """Writes a file, and others beside it."""

    def write(folder: Path) -> Path:
        for other, text in others.items():
            (folder / other.replace("_dot_", ".")).write_text(text)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return folder / name

    return write


def _check_videos(videos: list[dict]) -> None:
    """Whether moments lie in their videos."""
    for video in videos:
        assert 0 < video["duration"] < math.inf, video["vid"]
        for query in video["queries"]:
            for start, end in query.get("moments", ()):
                assert 0 <= start < end <= video["duration"], (start, end, video["duration"])
    qids = [query["qid"] for video in videos for query in video["queries"]]
    assert len(set(qids)) == len(qids)


def _annotations(kind: Any, **options: Any) -> Callable[[Path], None]:
    """Reads a split, the broken parts of it left out, and then not."""

    def read(file: Path) -> None:
        for on_error in ("skip", "stop"):
            dataset = kind(ann_file=str(file), **{"clip_length": 1.0, **NO_PARTS, **options}, on_error=on_error)
            _check_videos(dataset.read_annotations())

    return read


STA = "AO8RW 0.0 6.9##a person is putting a book on a shelf.\nAO8RW 4 9##person begins to read.\nB 1 2##person sits.\n"
DURATIONS = "id,subject,length\nAO8RW,ABC,33.67\nB,X,12\n"


def _charades_sta(file: Path) -> None:
    _annotations(CharadesSTADataset, duration_file=str(file.with_name("Charades_v1_train.csv")))(file)


def _durations(file: Path) -> None:
    _annotations(CharadesSTADataset, duration_file=str(file))(file.with_name("charades_sta_train.txt"))


def _entry(**more: Any) -> dict[str, Any]:
    sentences = ["person opens a door.", "a person sits"]
    return {"timestamps": [[1.5, 4.0], [0, 8.25]], "sentences": sentences, **more}


def _qvhighlights(qid: int) -> str:
    record = {
        "qid": qid,
        "query": "A family is playing basketball together.",
        "duration": 20,
        "vid": "bP5KfdFJzC4_660.0_680.0",
        "relevant_windows": [[0, 6], [8, 12]],
        "relevant_clip_ids": [0, 1, 2, 4, 5],
        "saliency_scores": [[4, 1, 1], [4, 1, 1], [4, 2, 1], [4, 3, 2], [4, 3, 2]],
    }
    return json.dumps(record)


def _prediction(qid: int) -> dict[str, Any]:
    windows = [[0.0, 6.1, 0.9], [8, 12, 0.25], [2, 3, 0.125]]
    scores = [0.5, 0.25, 0.0, -1.0, 3, 4, 5, 6, 7, 8]
    names = {"query": "A family is playing basketball together.", "vid": "bP5KfdFJzC4_660.0_680.0"}
    return {"qid": qid, **names, "pred_relevant_windows": windows, "pred_saliency_scores": scores}


LABELS = "\n".join(map(_qvhighlights, (1, 2, 3))) + "\n"
SUBMISSION = "\n".join(json.dumps(_prediction(qid)) for qid in (1, 2, 3)) + "\n"


def _scored(submission: Path, annotations: Path) -> None:
    for name, value in score_files(submission, [annotations]).scores[annotations.stem].items():
        assert math.isnan(value) or -1e-6 <= value <= 100 + 1e-6, (name, value)


def _glove(file: Path) -> None:
    text = GloVeText(str(file))
    text.prepare([("person opens the door", 1)])
    words = text.encode("person opens the door", 1)["words"].numpy()
    assert np.isfinite(words).all()
    assert words.ndim == 2


def _word_classes(file: Path) -> None:
    vocabulary = Vocabulary.from_file(file, 3)
    assert all(0 <= vocabulary.label(word) <= vocabulary.size for word in ("person", "the", "unheard"))


def _token_classes(file: Path) -> None:
    labels = TokenClasses(str(file), 3, 49406, 49407).labels([49406, 320, 7, 49407])["words_label"]
    assert len(labels) == 4


def _merges(file: Path) -> None:
    tokenizer = BytePairTokenizer(file)
    ids = tokenizer.encode("hello the she's")
    assert all(0 <= token < tokenizer.size for token in ids)


def _write_merges(folder: Path) -> Path:
    lines = ["#version: 0.2", "h e", "l l", "he ll", "hell o</w>", "t h", "th e</w>", "' s</w>", ""]
    (folder / "bpe.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    return folder / "bpe.txt.gz"


def _mutated_gzip(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return mutated_text(content, rng)
    return gzip.compress(mutated_text(gzip.decompress(content), rng), mtime=0)


CONFIG = {
    "custom_imports": {"imports": ["mesm_plugin"]},
    "default_scope": "mesm_plugin",
    "model": {"type": "DETRGrounder", "video_dims": 10, "text_dims": 8, "aligner": {"type": "MESMAligner"}},
    "train_dataloader": {"batch_size": 2, "dataset": {"type": "SyntheticDataset", "split": "train", "num_videos": 3}},
    "train_cfg": {"max_epochs": 2, "type": "ResumableTrainLoop"},
    "optim_wrapper": {"type": "GuardedOptimWrapper", "optimizer": {"type": "AdamW", "lr": 1e-4}},
}


def _mutated_yaml(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.9:
        return mutated_text(content, rng)
    tag = rng.choice(
        ("object/apply:os.system ['true']", "object/new:os.system ['true']", "name:os.system ''", "tuple [1]")
    )
    lines = content.decode().splitlines()
    lines.insert(rng.randrange(len(lines)), f"x{rng.randrange(9)}: !!python/{tag}")
    return "\n".join(lines).encode()


def _config(file: Path) -> None:
    check_config(read_config(str(file)))


def _write_run(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        start = folder / "20260101_000000"
        start.mkdir()
        (start / "run.json").write_text(
            json.dumps({"seed": 3, "settings": {"model": {"dims": 8}, "hooks": [{"x": 1}]}})
        )
        metrics = {"R1@0.5": 50.0, "mAP": None}
        (folder / "metrics.json").write_text(json.dumps({"split": "test", "data": "x", "metrics": metrics}))
        return folder / name

    return write


def _compared(file: Path) -> None:
    folder = file.parent if file.name == "metrics.json" else file.parents[1]
    groups = group_runs([read_run(folder)])
    differing_settings(groups)
    for group in groups:
        for score in group.runs[0].scores:
            group.text(score)


GLOVE = "".join(f"{word} 0.5 -1.25 3e-2\n" for word in ("the", "person", "door", "opens"))
TEXT_KINDS = [
    FileKind(
        "charades_sta",
        _writer("charades_sta_train.txt", STA, Charades_v1_train_dot_csv=DURATIONS),
        _charades_sta,
        mutated_text,
    ),
    FileKind(
        "durations_csv",
        _writer("Charades_v1_train.csv", DURATIONS, charades_sta_train_dot_txt=STA),
        _durations,
        mutated_text,
    ),
    FileKind(
        "durations_json",
        _writer("durations.json", {"AO8RW": 33.67, "B": 12}, charades_sta_train_dot_txt=STA),
        _durations,
        mutated_json,
    ),
    FileKind(
        "charades_cg",
        _writer("novel_word.json", {"a": _entry(duration=9.5), "b": _entry(duration=30)}),
        _annotations(CharadesCGDataset),
        mutated_json,
    ),
    FileKind(
        "charades_cd",
        _writer("train.json", {"a": _entry(video_duration=9.5), "b": _entry(video_duration=30)}),
        _annotations(CharadesCDDataset),
        mutated_json,
    ),
    FileKind(
        "tacos",
        _writer("val.json", {"s1": _entry(fps=29.4, num_frames=900), "s2": _entry(fps=25, num_frames=250)}),
        _annotations(TACoSDataset, clip_length=None),
        mutated_json,
    ),
    FileKind(
        "qvhighlights",
        _writer("highlight_val_release.jsonl", LABELS),
        _annotations(QVHighlightsDataset, clip_length=2.0),
        mutated_json,
    ),
    FileKind(
        "submission",
        _writer("submission.jsonl", SUBMISSION, labels_dot_jsonl=LABELS),
        lambda file: _scored(file, file.with_name("labels.jsonl")),
        mutated_json,
    ),
    FileKind(
        "ground_truth",
        _writer("labels.jsonl", LABELS, submission_dot_jsonl=SUBMISSION),
        lambda file: _scored(file.with_name("submission.jsonl"), file),
        mutated_json,
    ),
    FileKind("glove", _writer("glove.txt", GLOVE), _glove, mutated_text),
    FileKind("word_counts", _writer("GloVe_count.txt", "person 0 9\nthe 1 8\ndoor 2 3\n"), _word_classes, mutated_text),
    FileKind("token_counts", _writer("CLIP_count.txt", "320 9\n269 8\n2533 3\n"), _token_classes, mutated_text),
    FileKind("byte_pairs", _write_merges, _merges, _mutated_gzip),
    FileKind("config_json", _writer("config.json", CONFIG), _config, mutated_json),
    FileKind(
        "config_yaml",
        _writer("config.yaml", yaml.safe_dump(CONFIG)),
        _config,
        _mutated_yaml,
    ),
    FileKind(
        "config_python",
        _writer("config.py", "".join(f"{key} = {value!r}\n" for key, value in CONFIG.items())),
        _config,
        mutated_text,
    ),
    FileKind("metrics", _write_run("metrics.json"), _compared, mutated_json),
    FileKind("run_record", _write_run("20260101_000000/run.json"), _compared, mutated_json),
]
