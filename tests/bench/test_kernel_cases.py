# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from bench.kernel_cases import ATTENTION_CASES, LOSS_CASES, AttentionCase, AttentionData, LossCase, LossData

CPU = torch.device("cpu")


def test_sizes() -> None:
    sizes = {case.name: (len(case.clips), max(case.clips), max(case.words)) for case in ATTENTION_CASES}
    assert sizes == {
        "Q4 40x10": (4, 40, 10),
        "Q31 75x15": (31, 75, 15),
        "Q31 20-230 x 5-32": (31, 230, 32),
        "Q128 75x32": (128, 75, 32),
        "Q31 600x33": (31, 600, 33),
    }
    [ragged] = (case for case in ATTENTION_CASES if case.ragged)
    assert (min(ragged.clips), min(ragged.words)) == (20, 5)
    assert len(set(ragged.clips)) == 31
    assert [case.name for case in LOSS_CASES] == ["N32", "N1024", "N8192", "N65536"]
    assert [case.gpu_only for case in LOSS_CASES] == [False, False, False, True]


def test_keys_are_the_middle_half_of_the_clips() -> None:
    data = AttentionData(AttentionCase("two", (8, 5), (3, 2)), torch.float32, CPU)
    words_mask, clips_mask = data.masks
    assert words_mask.tolist() == [[True] * 3, [True, True, False]]
    assert clips_mask.int().tolist() == [[0, 0, 1, 1, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0, 0, 0]]
    clip_problems, word_problems = data.problems
    assert clip_problems.problems == [(0, 8, 0, 3), (8, 5, 3, 2)]
    assert word_problems.problems == [(0, 3, 2, 4), (3, 2, 9, 2)]


def test_packing_keeps_the_valid_rows() -> None:
    data = AttentionData(AttentionCase("two", (8, 5), (3, 2)), torch.float32, CPU)
    clips, words = data.tensors[0], data.tensors[1]
    assert torch.equal(data.pack(clips), torch.cat((clips[0], clips[1, :5])))
    assert torch.equal(data.pack(words), torch.cat((words[0], words[1, :2])))
    assert (data.upstream[0][1, 5:] == 0).all()
    assert (data.upstream[0][1, :5] != 0).all()


@pytest.mark.parametrize("make", [lambda: AttentionData(ATTENTION_CASES[0], torch.float16, CPU).tensors,
                                  lambda: LossData(LossCase(32), torch.float16, CPU).features])  # fmt: skip
def test_same_inputs_every_time(make) -> None:  # type: ignore[no-untyped-def]
    for first, second in zip(make(), make(), strict=True):
        assert first.dtype == torch.float16
        assert torch.equal(first, second)


def test_moments_have_some_positives() -> None:
    from mesm_plugin.kernels.contrastive_loss.reference import positive_pairs

    moments = LossData(LossCase(1024), torch.float32, CPU).moments
    assert torch.equal(moments, moments.round())
    positives = positive_pairs(moments, moments, 0.9, "iou").sum(dim=1).float()
    assert positives.min() >= 1
    assert 2 < positives.mean() < 10
