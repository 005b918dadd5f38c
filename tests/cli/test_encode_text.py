# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Sentences of Charades-STA go through a tiny random text tower: to a file, and in training and prediction."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mesm_plugin.datasets import CLIPText, PreExtractedText

Command = Callable[..., Any]
MERGES = ["t h", "th e</w>", "d o", "o r</w>", "do or</w>"]
NUM_TOKENS = 512 + len(MERGES) + 2
START, FULL_STOP, THE, DOOR, END = NUM_TOKENS - 2, 269, 513, 516, NUM_TOKENS - 1
SENTENCES = {"train": ["the door.", "door the door."], "test": ["The door the door."]}


@dataclass
class Files:
    """What a user has."""

    data: Path
    weights: Path
    bpe: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Annotations and features of three videos, and a text tower of 32 channels."""
    transformers = pytest.importorskip("transformers", reason="install mesm_plugin[clip]")
    root = tmp_path_factory.mktemp("encode_text")
    charades = root / "charades"
    (charades / "annotations").mkdir(parents=True)
    vids = []
    for split, sentences in SENTENCES.items():
        lines = [f"{split}{index} 2.0 6.0##{sentence}\n" for index, sentence in enumerate(sentences)]
        (charades / "annotations" / f"charades_sta_{split}.txt").write_text("".join(lines))
        rows = [f"{split}{index},10.0\n" for index in range(len(sentences))]
        (charades / "annotations" / f"Charades_v1_{split}.csv").write_text("id,length\n" + "".join(rows))
        vids += [f"{split}{index}" for index in range(len(sentences))]
    (charades / "annotations" / "CLIP_tokenized_count.txt").write_text(f"{DOOR} 5\n{THE} 4\n")
    for name in ("clip_image", "slowfast"):
        with h5py.File(charades / f"{name}.hdf5", "w") as features:
            for index, vid in enumerate(vids):
                features[vid] = np.random.default_rng(index).standard_normal((10, 4), dtype=np.float32)
    (root / "bpe.txt").write_text("\n".join(["#version", *MERGES, ""]))
    config = transformers.CLIPTextConfig(
        vocab_size=NUM_TOKENS,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        transformers.CLIPTextModel(config).save_pretrained(root / "weights")
    return Files(root, root / "weights", root / "bpe.txt")


@pytest.fixture
def encode(files: Files, command: Command) -> Command:
    """Runs `mesm encode-text` with further arguments."""
    given = ("--weights", files.weights, "--bpe", files.bpe, "--data", files.data)
    return lambda name, *arguments: command("encode-text", name, *given, *arguments)


def test_file_has_the_features_of_clip_text(encode: Command, files: Files, tmp_path: Path) -> None:
    out = tmp_path / "folder" / "words.hdf5"
    run = encode("Charades-STA", "--split", "train", "--out", out)
    assert run.code == 0, run.err
    assert f"{out}: 2 queries of Charades-STA, 11 tokens, at most 16 a query" in run.out
    with h5py.File(out) as words:
        assert words["1"].attrs["token_ids"].tolist() == [START, DOOR, THE, DOOR, FULL_STOP, END]
        assert words["1"].shape == (6, 32)
    text = CLIPText(str(files.weights), str(files.bpe))
    for qid, sentence in enumerate(SENTENCES["train"]):
        torch.testing.assert_close(
            PreExtractedText(str(out)).encode(sentence, qid)["words"], text.encode(sentence)["words"]
        )


def test_wrong_input(encode: Command, files: Files, tmp_path: Path) -> None:
    out = tmp_path / "words.hdf5"
    run = encode("charades", "--out", out)
    assert run.code == 2
    assert "query 0 of test is another one than before; write a file for each: --split train" in run.err
    assert not out.exists()
    out.write_text("precious")
    run = encode("charades", "--split", "test", "--out", out)
    assert (run.code, out.read_text()) == (2, "precious")
    assert f"--out {out} exists; name another file, or replace it with --overwrite" in run.err
    assert encode("charades", "--split", "test", "--out", out, "--overwrite", "--max-words", 4).code == 0
    with h5py.File(out) as words:
        assert words["0"].attrs["token_ids"].tolist() == [START, THE, DOOR, END]
    run = encode("charades", "--split", "test", "--out", tmp_path / "a.hdf5", "--weights", tmp_path / "absent.pt")
    assert (run.code, "absent.pt" in run.err) == (2, True)
    assert "--out" in encode("charades", "--out", tmp_path).err
    run = encode("charades", "--split", "test", "--out", tmp_path / "a.hdf5", "--device", "nonsense")
    assert (run.code, "device 'nonsense' cannot be used" in run.err) == (2, True)


def test_training_and_prediction_with_clip_text(
    command: Command, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESM_DATA", str(files.data))
    options = ["model.dims=16", "model.heads=2", "model.ffn_dims=16", "model.video_dims=10", "model.text_dims=32"]
    options += ["model.aligner.frame_word.token_dims=32", "model.aligner.frame_word.num_word_classes=5"]
    for split in ("train", "val", "test"):
        text = f"{split}_dataloader.dataset.text."
        options += [f"{text}type=CLIPText", f"{text}file={files.weights}", f"{text}tokenizer={files.bpe}"]
        options += [f"{text}dim=32", f"{text}vocabulary_size=2", f"{split}_dataloader.num_workers=0"]
        options += [f"{split}_dataloader.persistent_workers=False"]
        options += [f"{split}_dataloader.dataset.features.dims=[4,4]"]
    options += ["train_cfg.max_epochs=1", "train_dataloader.batch_size=2"]
    run = command("train", "mesm_charades_clip_slowfast", "--work-dir", tmp_path / "run", "--cfg-options", *options)
    assert run.code == 0, run.err
    features = []
    for index in range(2):
        features.append(tmp_path / f"{index}.npy")
        np.save(features[-1], np.random.default_rng(index).standard_normal((10, 4), dtype=np.float32))
    checkpoint = next((tmp_path / "run").glob("*.pth"))
    arguments = ["predict", "mesm_charades_clip_slowfast", checkpoint, "--features", *features]
    run = command(*arguments, "--sentence", "the new door", "--cfg-options", *options)
    assert run.code == 0, run.err
    assert "the new door\n  rank   start s     end s   score\n     1" in run.out
