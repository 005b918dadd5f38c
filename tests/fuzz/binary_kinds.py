# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Files of arrays and pickles: features, words, word vectors, checkpoints, weights."""

import argparse
import io
import pickle
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import nn

from mesm_plugin.converters import read_author_file
from mesm_plugin.datasets import GloVeText, HDF5FeatureStore, NumpyFeatureStore, PreExtractedText, TorchFeatureStore
from mesm_plugin.datasets.feature_store import FeatureStore
from mesm_plugin.datasets.text.clip_weights import read_clip_text_weights
from mesm_plugin.datasets.text.vocabulary import Vocabulary
from mesm_plugin.engine.checkpoint import check_fit, read_checkpoint
from tests.fuzz.file_kind import FileKind
from tests.fuzz.mutations import mutated_bytes

CLIPS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


class Malicious:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def _system() -> Malicious:
    import os

    return Malicious(os.system, "true")


HOSTILE: tuple[Callable[[], Any], ...] = (
    _system,
    lambda: {"state_dict": _system()},
    lambda: [_system()],
    lambda: Malicious(eval, "1"),
    lambda: Malicious(getattr, "", "join"),
    lambda: Malicious(bytearray, 10**12),
    lambda: np.array([_system()], dtype=object),
    lambda: {"state_dict": {"weight": 3}},
    lambda: {"w2id": {"the": 0}, "id2vec": [["x"]], "counter": 3},
    lambda: {1: {2: (None, b"x", {3.5})}},
)
ARRAYS: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: np.ones((0, 4)),
    lambda rng: np.ones((6, rng.choice((1, 3, 5)))),
    lambda rng: np.ones(6),
    lambda rng: np.float32(3),
    lambda rng: np.ones((2, 3, 4)),
    lambda rng: np.full((6, 4), rng.choice((np.nan, np.inf, -np.inf, 1e300))),
    lambda rng: np.array([["a", "b"]], dtype="S1"),
    lambda rng: np.array([[1j, 2]]),
    lambda rng: np.array([[True, False, True, False]]),
    lambda rng: np.zeros((2, 4), dtype=[("x", "f4")]),
    lambda rng: np.arange(24, dtype=">i8").reshape(6, 4),
    lambda rng: np.asfortranarray(CLIPS),
    lambda rng: CLIPS.astype(np.float16),
)


def _mutator(hostile: Callable[[random.Random], bytes]) -> Callable[[bytes, random.Random], bytes]:
    """Mostly changes of bytes; else a file made with other content, whole or broken in turn."""

    def mutate(content: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.7:
            return mutated_bytes(content, rng)
        made = hostile(rng)
        return made if rng.random() < 0.7 else mutated_bytes(made, rng)

    return mutate


def _hdf5_bytes(fill: Callable[[h5py.File], None]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def _fill_features(file: h5py.File) -> None:
    file["a"] = CLIPS
    file.create_dataset("b", data=CLIPS[:3], chunks=(1, 4), compression="gzip", fletcher32=True)


def _hostile_hdf5(rng: random.Random) -> bytes:
    def fill(file: h5py.File) -> None:
        kind = rng.randrange(8)
        file["b"] = CLIPS
        if kind == 0:
            file.create_group("a/b")
        elif kind == 1:
            file["a"] = h5py.SoftLink("/gone")
        elif kind == 2:
            file["a"] = h5py.ExternalLink("gone.hdf5", "/a")
        elif kind == 3:
            # Declared, and not written: it takes no space until it is read.
            file.create_dataset("a", shape=(10**7, 10**6), dtype="f4", chunks=(1, 1000))
        elif kind == 4:
            file.create_dataset("a", data=["x", "y"], dtype=h5py.string_dtype())
        elif kind == 5:
            file["a"] = h5py.Empty("f4")
        elif kind == 6:
            file.create_dataset("a", shape=(2,), dtype=h5py.vlen_dtype(np.float32))
        else:
            file["a"] = rng.choice(ARRAYS)(rng)
        # Links that lead nowhere have no attributes.
        if kind not in (1, 2):
            file["a"].attrs["token_ids"] = rng.choice(([1, 2], [0.5], 7, "x", list(range(6)))) if kind == 7 else [1]

    return _hdf5_bytes(fill)


def _fill_words(file: h5py.File) -> None:
    for key in ("a", "b"):
        file[key] = CLIPS
        file[key].attrs["token_ids"] = [49406, 320, 7, 8, 9, 49407]


def _write_hdf5(fill: Callable[[h5py.File], None]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "count.txt").write_text("320 9\n269 8\n")
        (folder / "features.hdf5").write_bytes(_hdf5_bytes(fill))
        return folder / "features.hdf5"

    return write


def _store(open_store: Callable[[Path], FeatureStore]) -> Callable[[Path], None]:
    """Reads the features of two videos as training does, and then as a data set checks them."""

    def read(file: Path) -> None:
        store = open_store(file)
        problems = store.find_problems(["a", "b"])
        for vid in ("a", "b"):
            try:
                array = store[vid]
            except (OSError, ValueError, KeyError):
                assert vid in problems
                raise
            assert vid not in problems
            assert array.ndim == 2
            assert array.dtype == np.float32
            assert np.isfinite(array).all()

    return read


def _words(file: Path) -> None:
    text = PreExtractedText(str(file), vocabulary=str(file.with_name("count.txt")), vocabulary_size=2)
    problems = text.prepare([("x", "a"), ("y", "b")])
    for place, qid in enumerate(("a", "b")):
        try:
            encoded = text.encode("x", qid)
        except (OSError, ValueError):
            assert place in problems
            raise
        assert place not in problems
        assert torch.isfinite(encoded["words"]).all()
        assert len(encoded["words"]) == len(encoded["words_label"])


def _numpy_bytes(array: Any, ending: str, allow_pickle: bool = True) -> bytes:
    buffer = io.BytesIO()
    if ending == ".npy":
        np.save(buffer, array, allow_pickle=allow_pickle)
    else:
        np.savez_compressed(buffer, features=array)
    return buffer.getvalue()


def _hostile_numpy(ending: str) -> Callable[[random.Random], bytes]:
    def make(rng: random.Random) -> bytes:
        kind = rng.randrange(5)
        if kind == 0:
            return pickle.dumps(rng.choice(HOSTILE)())
        if kind == 1:
            return _numpy_bytes(np.array([rng.choice(HOSTILE)()], dtype=object), ending)
        if kind == 2:
            # A header of an array that is not there.
            shape = rng.choice(("(1000000000000, 4)", "(-1, 4)", "(10000000, 10000000)", "(6, 4)", "()", "(2**70,)"))
            dtype = rng.choice(("<f4", "|O", "<f8", "|V9", ">i2"))
            text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
            header = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(96)
            return header if ending == ".npy" else _zip({"features.npy": header})
        if kind == 3 and ending == ".npz":
            member = _numpy_bytes(CLIPS, ".npy")
            return _zip(rng.choice(({"a.npy": member, "b.npy": member}, {}, {"x": b"no array"}, {"../a.npy": member})))
        return _numpy_bytes(rng.choice(ARRAYS)(rng), ending)

    return make


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _numpy_kind(ending: str) -> FileKind:
    def write(folder: Path) -> Path:
        for vid in "ab":
            (folder / f"{vid}{ending}").write_bytes(_numpy_bytes(CLIPS, ending))
        return folder / f"a{ending}"

    read = _store(lambda file: NumpyFeatureStore(file.parent))
    return FileKind(f"features{ending.replace('.', '_')}", write, read, _mutator(_hostile_numpy(ending)))


def _torch_bytes(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def _hostile_torch(rng: random.Random) -> bytes:
    kind = rng.randrange(5)
    zipped = {"_use_new_zipfile_serialization": rng.random() < 0.6}
    if kind == 0:
        return pickle.dumps(rng.choice(HOSTILE)())
    if kind == 1:
        return _torch_bytes(rng.choice(HOSTILE)(), **zipped)
    if kind == 2:
        # The pickle of an archive replaced by another one.
        archive = zipfile.ZipFile(io.BytesIO(_torch_bytes(torch.ones(6, 4))))
        members = {name: archive.read(name) for name in archive.namelist()}
        name = next(name for name in members if name.endswith("data.pkl"))
        changed = members[name] if rng.random() < 0.5 else pickle.dumps(rng.choice(HOSTILE)(), 2)
        return _zip(members | {name: mutated_bytes(changed, rng)})
    if kind == 3:
        sparse = torch.sparse_coo_tensor(torch.tensor([[0], [1]]), torch.tensor([2.0]), (10**6, 10**6))
        quantized = torch.quantize_per_tensor(torch.ones(2, 4), 0.1, 0, torch.qint8)
        odd = (sparse, quantized, torch.ones(6, 4, dtype=torch.bfloat16), torch.empty(6, 4, device="meta"))
        return _torch_bytes(
            rng.choice((*odd, torch.ones(6, 4, requires_grad=True), nn.Parameter(torch.ones(2, 4)))), **zipped
        )
    array = rng.choice(ARRAYS)(rng)
    if array.dtype.kind not in "fiu" or array.dtype.byteorder == ">":
        array = np.ones((2, 4))
    return _torch_bytes({"features": torch.as_tensor(np.array(array))}, **zipped)


def _write_torch(folder: Path) -> Path:
    for vid in "ab":
        torch.save(torch.from_numpy(CLIPS), folder / f"{vid}.pt")
    return folder / "a.pt"


def _glove_pickle(file: Path) -> None:
    text = GloVeText(str(file))
    text.prepare([("the person", 1)])
    assert torch.isfinite(text.encode("the person")["words"]).all()
    vocabulary = Vocabulary.from_file(file, 2)
    assert 0 <= vocabulary.label("the") <= vocabulary.size


def _write_glove(folder: Path) -> Path:
    content = {"w2id": {"person": 0, "the": 1}, "id2vec": CLIPS, "counter": Counter({"the": 8, "person": 9, "of": 2})}
    (folder / "glove.pkl").write_bytes(pickle.dumps(content, 4))
    return folder / "glove.pkl"


def _hostile_pickle(rng: random.Random) -> bytes:
    return pickle.dumps(rng.choice(HOSTILE)(), rng.randrange(6))


MODEL = nn.Linear(4, 3)


def _checkpoint(file: Path) -> None:
    check_fit(MODEL, read_checkpoint(file), file)


def _write_checkpoint(folder: Path) -> Path:
    optimizer = torch.optim.AdamW(MODEL.parameters())
    MODEL(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    content = {"state_dict": MODEL.state_dict(), "optimizer": optimizer.state_dict(), "meta": {"epoch": 1, "iter": 2}}
    torch.save(content, folder / "epoch_1.pth")
    return folder / "epoch_1.pth"


def _author_file(file: Path) -> None:
    weights, options = read_author_file(file)
    assert weights
    assert all(isinstance(name, str) for name in options)


def _write_author_file(folder: Path) -> Path:
    options = argparse.Namespace(hidden_dim=8, dset_name="hl", lr=1e-4)
    torch.save({"model": MODEL.state_dict(), "opt": options, "epoch": 3}, folder / "model_best.ckpt")
    return folder / "model_best.ckpt"


def _write_clip(folder: Path) -> Path:
    width = 64
    state = {
        "token_embedding.weight": torch.randn(20, width),
        "positional_embedding": torch.randn(8, width),
        "ln_final.weight": torch.ones(width),
        "ln_final.bias": torch.zeros(width),
        "text_projection": torch.randn(width, 32),
    }
    shapes = {"ln_1": (width,), "ln_2": (width,), "mlp.c_fc": (width, width), "mlp.c_proj": (width, width)}
    for name, shape in shapes.items():
        state[f"transformer.resblocks.0.{name}.weight"] = torch.ones(shape)
        state[f"transformer.resblocks.0.{name}.bias"] = torch.zeros(width)
    for name, rows in (("in_proj_", 3 * width), ("out_proj.", width)):
        state[f"transformer.resblocks.0.attn.{name}weight"] = torch.randn(rows, width)
        state[f"transformer.resblocks.0.attn.{name}bias"] = torch.zeros(rows)
    torch.save(state, folder / "ViT-B-32.pt")
    return folder / "ViT-B-32.pt"


BINARY_KINDS = [
    FileKind("features_hdf5", _write_hdf5(_fill_features), _store(HDF5FeatureStore), _mutator(_hostile_hdf5)),
    _numpy_kind(".npz"),
    _numpy_kind(".npy"),
    FileKind(
        "features_pt", _write_torch, _store(lambda file: TorchFeatureStore(file.parent)), _mutator(_hostile_torch)
    ),
    FileKind("words_hdf5", _write_hdf5(_fill_words), _words, _mutator(_hostile_hdf5)),
    FileKind("glove_pickle", _write_glove, _glove_pickle, _mutator(_hostile_pickle)),
    FileKind("checkpoint", _write_checkpoint, _checkpoint, _mutator(_hostile_torch)),
    FileKind("author_checkpoint", _write_author_file, _author_file, _mutator(_hostile_torch)),
    FileKind("clip_weights", _write_clip, read_clip_text_weights, _mutator(_hostile_torch)),
]
