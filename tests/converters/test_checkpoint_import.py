# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Files of all published settings become checkpoints and configs that fit; everything else is refused and named."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mesm_plugin.converters import import_checkpoint
from mesm_plugin.engine.checkpoint import check_fit, read_checkpoint
from mesm_plugin.engine.config_loading import read_config
from mesm_plugin.registry import MODELS
from tests.converters.author_files import PUBLISHED, QD_DETR, state_dict_of, write_author_file

QD_CONFIG = "qd_detr_qvhighlights_clip_slowfast"
SETTINGS = [(name, "mesm", options) for name, options in PUBLISHED.items()] + [(QD_CONFIG, "qd_detr", QD_DETR)]


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return state_dict_of(QD_CONFIG, "qd_detr", seed=1)


@pytest.mark.parametrize(("shipped", "peer", "options"), SETTINGS, ids=[name for name, _, _ in SETTINGS])
def test_published_settings_are_those_of_shipped_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shipped: str, peer: str, options: dict[str, Any]
) -> None:
    file = write_author_file(tmp_path / "best.ckpt", state_dict_of(shipped, peer), options)
    done = import_checkpoint(file)
    assert (done.checkpoint, done.config) == (tmp_path / "best.pth", tmp_path / "best.py")
    assert (done.converted.name, done.written.base, done.written.same_model) == (peer, shipped, True)
    assert done.written.notes == []
    monkeypatch.setenv("MESM_DATA", "/elsewhere")
    ours, theirs = read_config(str(done.config)), read_config(shipped)
    keys = ["train_dataloader", "val_dataloader", "test_dataloader", "test_evaluator", "default_hooks", "optim_wrapper"]
    for key in keys:
        assert ours[key] == theirs[key], key
    assert ours.test_dataloader.dataset.features.files[0].startswith("/elsewhere/")
    assert ours.model.post_process.max_seconds == theirs.model.post_process.max_seconds
    assert ours.model.post_process.get("round_to") == theirs.model.post_process.get("round_to")
    for config in (ours, theirs):
        with torch.device("meta"):
            model = MODELS.build(config.model)
        check_fit(model, read_checkpoint(done.checkpoint), done.checkpoint)


def test_values_arrive_where_they_belong(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    file = write_author_file(tmp_path / "qd.ckpt", weights, QD_DETR)
    done = import_checkpoint(file, tmp_path / "new" / "model.pth", tmp_path / "new" / "qd.py", peer="QD-DETR")
    model = MODELS.build(read_config(str(done.config)).model)
    model.load_state_dict(read_checkpoint(done.checkpoint)["state_dict"])
    assert torch.equal(model.moment_head.label.bias, weights["class_embed.bias"])
    assert torch.equal(model.decoder.anchors, weights["query_embed.weight"])
    assert torch.equal(model.video_projection[2].weight, weights["input_vid_proj.0.net.1.weight"])


def test_options_that_differ_are_followed(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    changed = {
        **QD_DETR,
        **{"v_feat_dirs": ["clip_features", "slowfast_features"], "max_v_l": 90, "max_q_l": 20, "clip_length": 1},
        **{"no_norm_vfeat": True, "label_loss_coef": 5, "nms_thd": 0.7},
    }
    done = import_checkpoint(write_author_file(tmp_path / "qd.ckpt", weights, changed))
    config = read_config(str(done.config))
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        data = config[name].dataset
        assert (data.clip_length, data.max_clips, data.text.max_words) == (1, 90, 20)
        assert [Path(path).name for path in data.features.files] == ["clip_image.hdf5", "slowfast.hdf5"]
        assert (list(data.features.dims), data.features.normalize) == ([512, 2304], False)
    assert (config.model.label_loss.loss_weight, config.model.post_process.round_to) == (5, 1.0)
    assert not done.written.same_model
    assert "nms_thd=0.7" in done.written.notes[0]
    assert "text.max_words=20" in done.written.notes[1]


def without(weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in weights.items() if key != name}


SPAN = "span_embed.layers.0.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_embed.bias": None}, r"1 missing \(moment_head\.label\.bias\)"),
        ({"backbone.weight": torch.ones(1)}, r"1 of 177 parameters are not those of QD-DETR's code.*backbone\.weight"),
        ({SPAN: torch.ones(7)}, r"1 of another shape \(moment_head\.span\.0\.bias is \(7,\), expected \(256,\)\)"),
        ({SPAN: torch.full((256,), torch.nan)}, rf"parameter '{SPAN}' has 256 of 256 numbers that are NaN or infinite"),
        ({SPAN: torch.ones(256, dtype=torch.int64)}, rf"parameter '{SPAN}' is of torch\.int64"),
        ({"input_vid_proj.0.LayerNorm.weight": None}, "input_vid_proj.0.LayerNorm.weight' of .* is missing"),
    ],
)
def test_bad_parameters_are_named(
    tmp_path: Path, weights: dict[str, torch.Tensor], change: dict[str, Any], message: str
) -> None:
    changed = {key: value for key, value in {**weights, **change}.items() if value is not None}
    file = write_author_file(tmp_path / "qd.ckpt", changed, QD_DETR)
    with pytest.raises(ValueError, match=rf"qd\.ckpt: .*{message}"):
        import_checkpoint(file)
    assert [path.name for path in tmp_path.iterdir()] == ["qd.ckpt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_norm": True}, "option pre_norm=True of QD-DETR's code: only False is supported"),
        ({"hidden_dim": "256"}, "option hidden_dim='256' of QD-DETR's code: expected a number"),
        ({"dropout": float("nan")}, "option dropout=nan"),
        ({"nheads": 7}, "describe a model that cannot be built"),
        ({"hidden_dim": -8}, "describe a model that cannot be built"),
        ({"hidden_dim": 128}, "of another shape"),
        ({"enc_layers": 3}, "missing"),
        ({"enc_layers": 10**9}, "option enc_layers=1000000000 of QD-DETR's code: there are 176 parameters"),
        ({"nheads": None}, "option nheads=None"),
        ({"dset_name": "tvsum"}, "option dataset_name='tvsum' of QD-DETR's code: supported are charades"),
        ({"dset_name": "tacos"}, "no shipped config reads word features of 512 channels for tacos"),
        ({"ctx_mode": "video_audio_tef"}, "option ctx_mode='video_audio_tef'"),
        ({"v_feat_dirs": ["vgg"]}, "names vgg, which have .4096. channels, but the parameters take 2816"),
        ({"v_feat_dirs": ["{{$HOME:x}}", "clip"]}, "has the name '{{"),
        ({"v_feat_dirs": 3}, "option feat_files=3 of QD-DETR's code: expected paths"),
        ({"clip_length": "{{$A:b}}"}, "option clip_length='{{"),
    ],
)
def test_bad_options_are_named(
    tmp_path: Path, weights: dict[str, torch.Tensor], change: dict[str, Any], message: str
) -> None:
    file = write_author_file(tmp_path / "qd.ckpt", weights, {**QD_DETR, **change})
    with pytest.raises(ValueError, match=rf"qd\.ckpt: .*{message}"):
        import_checkpoint(file, peer="qd_detr")
    assert [path.name for path in tmp_path.iterdir()] == ["qd.ckpt"]


def test_options_of_mesm_must_agree_with_the_parameters(tmp_path: Path) -> None:
    options = PUBLISHED["mesm_charades_vgg_glove"]
    weights = state_dict_of("mesm_charades_vgg_glove")
    for change, message in {
        "vocab_size": (1000, "vocab_size=1000 .* means 1001 classes of words, but the parameters have 1112"),
        "tokenizer_type": ("CLIP", "tokenizer_type='CLIP' .* goes with word features of 512 channels.* take 300"),
        "dataset_name": (None, "the options lack 'dataset_name'"),
    }.items():
        file = write_author_file(tmp_path / "mesm.ckpt", weights, {**options, change: message[0]})
        with pytest.raises(ValueError, match=rf"mesm\.ckpt: .*{message[1]}"):
            import_checkpoint(file)


def test_foreign_files_and_unknown_peers_are_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    file = write_author_file(tmp_path / "resnet.ckpt", {"conv1.weight": torch.ones(3)}, {"lr": 1})
    with pytest.raises(ValueError, match=r"resnet\.ckpt: the parameters \(1, such as conv1\.weight\) are of none"):
        import_checkpoint(file)
    file = write_author_file(tmp_path / "qd.ckpt", weights, QD_DETR)
    with pytest.raises(ValueError, match="peer 'qd_dter' is not known; did you mean 'qd_detr'"):
        import_checkpoint(file, peer="qd_dter")
    with pytest.raises(ValueError, match=r"qd\.ckpt: the options lack .* of the released MESM code"):
        import_checkpoint(file, peer="mesm")


def test_files_that_are_there_stay(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    file = write_author_file(tmp_path / "qd.ckpt", weights, QD_DETR)
    (tmp_path / "qd.py").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"qd\.py exists; name another file, or replace it with --force"):
        import_checkpoint(file)
    assert (tmp_path / "qd.py").read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "qd.pth").exists()
    import_checkpoint(file, force=True)
    assert read_config(str(tmp_path / "qd.py")).model.type == "QDDETR"
    for target in ({"out": file}, {"out": file, "force": True}):
        with pytest.raises(ValueError, match="is the file to import itself"):
            import_checkpoint(file, **target)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must end in \.py"):
        import_checkpoint(file, tmp_path / "a.pth", tmp_path / "a.json")
