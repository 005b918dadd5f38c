# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import copy
import pickle

import torch
from torch.utils.data import DataLoader

from mesm_plugin.datasets.tensor_block import TensorBlock


def _block() -> TensorBlock:
    return TensorBlock(
        clips=torch.arange(24, dtype=torch.float32).reshape(2, 3, 4).transpose(1, 2),
        mask=torch.tensor([True, False, True]),
        index=torch.arange(5),
        none=torch.empty(0, 7),
        half=torch.tensor(0.5, dtype=torch.float16),
    )


def _assert_same(got: TensorBlock, wanted: TensorBlock) -> None:
    assert type(got) is TensorBlock
    assert list(got) == list(wanted)
    for name, tensor in wanted.items():
        assert got[name].dtype == tensor.dtype
        assert got[name].shape == tensor.shape
        assert torch.equal(got[name], tensor)


def test_pickled_as_one_tensor() -> None:
    got = pickle.loads(pickle.dumps(_block()))
    _assert_same(got, _block())
    assert len({tensor.untyped_storage().data_ptr() for tensor in got.values()}) == 1
    got["index"][:] = -1
    assert torch.equal(got["mask"], _block()["mask"])


def test_copies() -> None:
    block = _block()
    shallow, deep = copy.copy(block), copy.deepcopy(block)
    assert shallow["clips"] is block["clips"]
    block["clips"][:] = -1
    _assert_same(deep, _block())
    shallow["more"] = torch.zeros(1)
    assert "more" not in block


def test_empty() -> None:
    assert pickle.loads(pickle.dumps(TensorBlock())) == {}


def test_a_worker_sends_one_piece_of_shared_memory() -> None:
    loader = DataLoader(range(3), num_workers=1, collate_fn=_collate)
    for number, batch in enumerate(loader):
        wanted = _block()
        wanted["index"] += number
        _assert_same(batch, wanted)
        assert len({tensor.untyped_storage().data_ptr() for tensor in batch.values()}) == 1
        assert batch["clips"].is_shared()


def _collate(items: list[int]) -> TensorBlock:
    block = _block()
    block["index"] += items[0]
    return block
