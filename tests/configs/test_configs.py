# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Every shipped config builds, and runs a step of training and of inference on tiny generated features."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mesm_plugin.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs"
RUNS = sorted(file for file in CONFIGS.rglob("*.py") if "_base_" not in file.parts)
WORDS = ["person", "opens", "closes", "the", "a", "door", "box", "light", "runs", "sits"]
TRAIN_VIDEOS, TEST_VIDEOS = [f"TR{i:03}" for i in range(30)], [f"TE{i:03}" for i in range(3)]


def write_features(file: Path, dims: int, videos: list[str]) -> None:
    rng = np.random.default_rng(dims)
    with h5py.File(file, "w") as features:
        for video in videos:
            features[video] = rng.standard_normal((8, dims), dtype=np.float32)


def write_annotations(folder: Path) -> dict[str, int]:
    """Charades-STA's files for a few invented videos; returns the number of queries of each split."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    counts = {}
    for split, videos in (("train", TRAIN_VIDEOS), ("test", TEST_VIDEOS)):
        lines = [
            f"{video} {start}.5 {start + 3}.0##{' '.join(rng.choice(WORDS, 4))}."
            for video in videos
            for start in (0, 2)
        ]
        counts[split] = len(lines)
        (folder / f"charades_sta_{split}.txt").write_text("\n".join(lines) + "\n")
        rows = ["id,length", *(f"{video},8.0" for video in videos)]
        (folder / f"Charades_v1_{split}.csv").write_text("\n".join(rows) + "\n")
    (folder / "GloVe_tokenized_count.txt").write_text("".join(f"{w} {i + 2} 9\n" for i, w in enumerate(WORDS)))
    (folder / "CLIP_tokenized_count.txt").write_text("".join(f"{300 + i} 9\n" for i in range(20)))
    return counts


def write_qvhighlights(folder: Path) -> None:
    """QVHighlights' layout: two sequences of each source video, one of them with two queries."""
    (folder / "annotations").mkdir(parents=True)
    rng = np.random.default_rng(3)
    videos, qid = [], 0
    words = h5py.File(folder / "clip_text.hdf5", "w")
    for split, sources in (("train", 20), ("val", 3), ("test", 2)):
        lines = []
        for source, start in [(f"{split}{i}", start) for i in range(sources) for start in (0, 0, 16)]:
            vid = f"{source}_{start}.0_{start + 16}.0"
            videos.append(vid)
            record = {"qid": qid, "query": f"{' '.join(rng.choice(WORDS, 4))}.", "duration": 16, "vid": vid}
            if split != "test":
                windows = [[4 * i, 4 * i + 2] for i in range(1 + qid % 2)] if qid % 7 else [[0, 16]]
                clips = [clip for start, end in windows for clip in range(start // 2, end // 2)]
                record |= {"relevant_windows": windows, "relevant_clip_ids": clips}
                record["saliency_scores"] = rng.integers(0, 5, (len(clips), 3)).tolist()
            lines.append(json.dumps(record) + "\n")
            words[str(qid)] = rng.standard_normal((6, 512), dtype=np.float32)
            words[str(qid)].attrs["token_ids"] = [49406, *rng.integers(300, 325, 4), 49407]
            qid += 1
        (folder / "annotations" / f"highlight_{split}_release.jsonl").write_text("".join(lines))
    words.close()
    (folder / "annotations" / "CLIP_tokenized_count.txt").write_text("".join(f"{300 + i} 9\n" for i in range(20)))
    for name, dims in (("clip_image", 512), ("slowfast", 2304)):
        write_features(folder / f"{name}.hdf5", dims, list(dict.fromkeys(videos)))


def write_json_split(file: Path, videos: list[str], **keys: float) -> None:
    """An entry per video of three sentences, times counted in frames of a tenth of a second or in seconds."""
    rng = np.random.default_rng(4)
    rate = keys.get("fps", 1)
    sentences = [f"{' '.join(rng.choice(WORDS, 4))}." for _ in range(3)]
    entry = {"sentences": sentences, "timestamps": [[i * rate, (i + 3) * rate] for i in range(3)], **keys}
    file.write_text(json.dumps(dict.fromkeys(videos, entry)))


def write_tacos(folder: Path) -> None:
    (folder / "annotations").mkdir(parents=True)
    for split, videos in (("train", TRAIN_VIDEOS), ("val", ["VA0", "VA1"]), ("test", TEST_VIDEOS)):
        write_json_split(folder / "annotations" / f"{split}.json", videos, fps=10, num_frames=80)
    (folder / "annotations" / "GloVe_tokenized_count.txt").write_text(
        "".join(f"{w} {i + 2} 9\n" for i, w in enumerate(WORDS))
    )
    write_features(folder / "c3d.hdf5", 4096, [*TRAIN_VIDEOS, "VA0", "VA1", *TEST_VIDEOS])


CG_SPLITS = ("train", "test_trivial", "novel_composition", "novel_word")
CD_SPLITS = ("charades_train", "charades_val", "charades_test_iid", "charades_test_ood")


def write_division_of_charades(folder: Path, splits: tuple[str, ...], duration: str) -> None:
    (folder / "annotations").mkdir(parents=True)
    rng = np.random.default_rng(5)
    with h5py.File(folder / "clip_text.hdf5", "w") as words:
        for split in splits:
            videos = TRAIN_VIDEOS if split == splits[0] else TEST_VIDEOS
            write_json_split(folder / "annotations" / f"{split}.json", videos, **{duration: 8.0})
            for number in range(1, 3 * len(videos) + 1):
                words[f"{split}-{number}"] = rng.standard_normal((6, 512), dtype=np.float32)
                words[f"{split}-{number}"].attrs["token_ids"] = [49406, *rng.integers(300, 325, 4), 49407]
    (folder / "annotations" / "CLIP_tokenized_count.txt").write_text("".join(f"{300 + i} 9\n" for i in range(20)))


def write_glove(file: Path) -> None:
    rng = np.random.default_rng(1)
    file.write_text("".join(f"{w} {' '.join(f'{x:.3f}' for x in rng.standard_normal(300))}\n" for w in WORDS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layouts of docs/data.md and docs/simulated_charades.md, filled with noise."""
    root = tmp_path_factory.mktemp("data")
    videos = TRAIN_VIDEOS + TEST_VIDEOS
    counts = write_annotations(root / "charades" / "annotations")
    for name, dims in (("vgg", 4096), ("i3d", 1024), ("clip_image", 512), ("slowfast", 2304)):
        write_features(root / "charades" / f"{name}.hdf5", dims, videos)
    rng = np.random.default_rng(2)
    for split, count in counts.items():
        with h5py.File(root / "charades" / f"clip_text_{split}.hdf5", "w") as file:
            for qid in range(count):
                file[str(qid)] = rng.standard_normal((6, 512), dtype=np.float32)
                file[str(qid)].attrs["token_ids"] = [49406, *rng.integers(300, 325, 4), 49407]
    write_glove(root / "glove.6B.300d.txt")
    write_qvhighlights(root / "qvhighlights")
    write_tacos(root / "tacos")
    write_division_of_charades(root / "charades_cg", CG_SPLITS, "duration")
    write_division_of_charades(root / "charades_cd", CD_SPLITS, "video_duration")
    write_annotations(root / "simulated" / "annotations")
    write_features(root / "simulated" / "features.hdf5", 256, videos)
    write_glove(root / "simulated" / "glove.sim.txt")
    return root


@pytest.fixture
def load(data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Config]:
    monkeypatch.setenv("MESM_DATA", str(data))
    monkeypatch.setenv("MESM_SIMULATED", str(data / "simulated"))

    def load_file(file: Path) -> Config:
        config = Config.fromfile(file)
        for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
            config[name].update(num_workers=0, persistent_workers=False, batch_size=3)
            if config[name].dataset.type == "SyntheticDataset":
                config[name].dataset.num_videos = 3
        return config

    return load_file


def test_names_are_unique() -> None:
    names = [file.name for file in CONFIGS.rglob("*.py")]
    assert len(names) == len(set(names)), "mim finds configs by their base name"


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_config_trains_and_predicts(file: Path, load: Callable[[Path], Config]) -> None:
    config = load(file)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mesm_plugin"):
        model = MODELS.build(config.model)
        wrapper = Runner.build_optim_wrapper(_Builder(model), config.optim_wrapper)
        train = Runner.build_dataloader(config.train_dataloader, seed=0)
        before = model.video_projection[2].weight.clone()
        losses = model.train_step(next(iter(train)), wrapper)
        assert losses["loss"].isfinite()
        assert not torch.equal(model.video_projection[2].weight, before)
        model.eval()
        for name in ("val_dataloader", "test_dataloader"):
            batch = next(iter(Runner.build_dataloader(config[name], seed=0)))
            for sample in model.val_step(batch):
                assert len(sample.pred_moments) == len(sample.sentences)
                assert all(np.isfinite(moments).all() for moments in sample.pred_moments)


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_classes_of_words_fit_the_model(file: Path, load: Callable[[Path], Config]) -> None:
    config = load(file)
    aligner = config.model.get("aligner", {})
    if aligner.get("type") != "MESMAligner" or aligner.get("frame_word", {}) is None:
        pytest.skip("the aligner restores no words")
    with DefaultScope.overwrite_default_scope("mesm_plugin"):
        text = Runner.build_dataloader(config.train_dataloader, seed=0).dataset.text
    assert text.num_classes is not None
    assert text.num_classes <= config.model.aligner.frame_word.num_word_classes


def test_best_checkpoint_is_not_chosen_on_the_test_split(load: Callable[[Path], Config]) -> None:
    for name in ("mesm_charades_vgg_glove", "mesm_charades_clip_slowfast", "mesm_charades_cg_clip_slowfast"):
        config = load(CONFIGS / "mesm" / f"{name}.py")
        assert config.val_dataloader.dataset.ann_file == config.train_dataloader.dataset.ann_file
        videos = [
            {info["vid"] for info in _dataset(config[loader])} for loader in ("train_dataloader", "val_dataloader")
        ]
        assert all(videos)
        assert not videos[0] & videos[1]
        assert videos[0] | videos[1] == set(TRAIN_VIDEOS)
        paper = load(CONFIGS / "mesm" / f"{name}_paper_protocol.py")
        # Of Charades-CG's test splits, the trivial one chooses nothing.
        files = paper.test_dataloader.dataset.ann_file
        assert paper.val_dataloader.dataset.ann_file == (files if isinstance(files, str) else files[1:])
        assert {info["vid"] for info in _dataset(paper.train_dataloader)} == set(TRAIN_VIDEOS)


QVHIGHLIGHTS = [file for file in RUNS if "qvhighlights" in file.stem]


@pytest.mark.parametrize("file", QVHIGHLIGHTS, ids=lambda file: file.stem)
def test_qvhighlights_is_scored_and_its_test_split_predicted(file: Path, load: Callable[[Path], Config]) -> None:
    config = load(file)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mesm_plugin"):
        model = MODELS.build(config.model).eval()
        evaluator = Runner.build_evaluator(_Builder(model), config.val_evaluator)
        loader = Runner.build_dataloader(config.val_dataloader, seed=0)
        evaluator.dataset_meta = loader.dataset.metainfo
        for batch in loader:
            evaluator.process(model.val_step(batch))
        metrics = evaluator.evaluate(len(loader.dataset))
        assert {"R1@0.5", "R1@0.7", "mAP", "short/mAP", "middle/mAP"} <= set(metrics)
        for name in ("Fair", "Good", "VeryGood"):
            assert 0 <= metrics[f"highlights/{name}/mAP"] <= 100
            assert 0 <= metrics[f"highlights/{name}/HIT@1"] <= 100
        test = config.test_dataloader
        test.dataset.ann_file = test.dataset.ann_file.replace("_val_", "_test_")
        samples = [s for batch in Runner.build_dataloader(test, seed=0) for s in model.val_step(batch)]
        assert sorted(qid for sample in samples for qid in sample.qids) == list(range(69, 75))
        assert all(len(scores) == 8 for sample in samples for scores in sample.pred_saliency)


def test_splits_of_charades_cg_are_scored_apart(load: Callable[[Path], Config]) -> None:
    config = load(CONFIGS / "mesm" / "mesm_charades_cg_clip_slowfast_paper_protocol.py")
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mesm_plugin"):
        model = MODELS.build(config.model).eval()
        for name, splits in (("test", ["test_trivial"]), ("val", [])):
            evaluator = Runner.build_evaluator(_Builder(model), config[f"{name}_evaluator"])
            loader = Runner.build_dataloader(config[f"{name}_dataloader"], seed=0)
            evaluator.dataset_meta = loader.dataset.metainfo
            for batch in loader:
                evaluator.process(model.val_step(batch))
            metrics = evaluator.evaluate(len(loader.dataset))
            assert list(dict.fromkeys(key.split("/")[0] for key in metrics)) == [
                *splits,
                "novel_composition",
                "novel_word",
            ]
            assert set(config.default_hooks.checkpoint.save_best) <= set(metrics)
            # The words are noise, so the splits have scores of their own.
            assert metrics["novel_word/mIoU"] != metrics["novel_composition/mIoU"]


def test_charades_cd_is_chosen_on_its_validation_split_and_its_test_splits_scored_apart(
    load: Callable[[Path], Config],
) -> None:
    config = load(CONFIGS / "mesm" / "mesm_charades_cd_clip_slowfast.py")
    files = [config[f"{name}_dataloader"].dataset.ann_file for name in ("train", "val", "test")]
    assert [Path(file).stem for file in [*files[:2], *files[2]]] == list(CD_SPLITS)
    assert config.default_hooks.checkpoint.save_best == "mIoU"
    cg = load(CONFIGS / "mesm" / "mesm_charades_cg_clip_slowfast.py")
    assert (config.model, config.optim_wrapper, config.train_cfg) == (cg.model, cg.optim_wrapper, cg.train_cfg)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mesm_plugin"):
        model = MODELS.build(config.model).eval()
        evaluator = Runner.build_evaluator(_Builder(model), config.test_evaluator)
        loader = Runner.build_dataloader(config.test_dataloader, seed=0)
        evaluator.dataset_meta = loader.dataset.metainfo
        for batch in loader:
            evaluator.process(model.val_step(batch))
        metrics = evaluator.evaluate(len(loader.dataset))
    assert list(dict.fromkeys(key.split("/")[0] for key in metrics)) == list(CD_SPLITS[2:])


def test_tacos_is_chosen_on_its_validation_split(load: Callable[[Path], Config]) -> None:
    config = load(CONFIGS / "mesm" / "mesm_tacos_c3d_glove.py")
    for name, split in (("train", "train"), ("val", "val"), ("test", "test")):
        dataset = config[f"{name}_dataloader"].dataset
        assert dataset.ann_file.endswith(f"tacos/annotations/{split}.json")
        assert (dataset.clip_length, dataset.max_clips, dataset.max_queries) == (None, 600, 10)
    assert config.default_hooks.checkpoint.save_best == "mIoU"
    assert config.default_hooks.checkpoint.rule == "greater"
    assert config.val_evaluator.r1_thresholds == [0.1, 0.3, 0.5, 0.7]
    assert config.model.matcher.cost_class == 6
    assert config.model.matcher.cost_span == 10
    assert [loss["type"] for loss in config.model.saliency_losses] == [
        "RankContrastiveLoss",
        "NegativePairLoss",
        "SaliencyHingeLoss",
    ]
    paper = load(CONFIGS / "mesm" / "mesm_tacos_c3d_glove_paper_protocol.py")
    assert paper.val_dataloader.dataset.ann_file == config.test_dataloader.dataset.ann_file


def test_predictions_do_not_depend_on_the_queries_of_an_item(load: Callable[[Path], Config]) -> None:
    config = load(CONFIGS / "mesm" / "mesm_tacos_c3d_glove.py")
    torch.manual_seed(0)
    found = []
    with DefaultScope.overwrite_default_scope("mesm_plugin"):
        model = MODELS.build(config.model).eval()
        # One item a video, or one a query, and then those of a video share a batch.
        for max_queries, batch_size in ((10, 1), (1, 9)):
            config.test_dataloader.dataset.max_queries = max_queries
            config.test_dataloader.batch_size = batch_size
            loader = Runner.build_dataloader(config.test_dataloader, seed=0)
            samples = [sample for batch in loader for sample in model.val_step(batch)]
            assert len(samples) == (3 if max_queries == 10 else 9)
            found.append({qid: moments for s in samples for qid, moments in zip(s.qids, s.pred_moments, strict=True)})
    whole, single = found
    assert whole.keys() == single.keys()
    for qid, moments in whole.items():
        np.testing.assert_allclose(single[qid], moments, atol=1e-4)
    assert not np.allclose(whole["test-1"], whole["test-2"], atol=1e-2)


def test_a_training_batch_of_mesm_holds_whole_sources(load: Callable[[Path], Config]) -> None:
    config = load(CONFIGS / "mesm" / "mesm_qvhighlights_clip_slowfast.py")
    with DefaultScope.overwrite_default_scope("mesm_plugin"):
        loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    assert len(loader) == 7
    for batch in list(loader)[:-1]:
        assert batch["inputs"]["source"].tolist() == [0, 0, 1, 1, 2, 2]
        assert batch["inputs"]["query_video"].tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5]


def _dataset(dataloader: Any) -> list[dict]:
    with DefaultScope.overwrite_default_scope("mesm_plugin"):
        dataset = Runner.build_dataloader(dataloader, seed=0).dataset
    return [dataset.get_data_info(i) for i in range(len(dataset))]


class _Builder:
    """What `Runner.build_optim_wrapper` reads of a runner."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
