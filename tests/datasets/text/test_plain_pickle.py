# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import collections
import functools
import io
import os
import pickle
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesm_plugin.datasets.text.plain_pickle import PlainArray, is_pickle, read_plain_pickle

WritePickle = Callable[[bytes], Path]


@pytest.fixture
def write_pickle(tmp_path: Path) -> WritePickle:
    def write(content: bytes) -> Path:
        path = tmp_path / "glove.pkl"
        path.write_bytes(content)
        return path

    return write


def arrays_as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: arrays_as_lists(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [arrays_as_lists(part) for part in value]
    if isinstance(value, PlainArray):
        assert value.values is not None
        return value.values.tolist()
    return value


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_of_every_protocol(write_pickle: WritePickle, protocol: int) -> None:
    numbers = np.arange(6, dtype=np.float32)
    content = {
        "text": "caf\u00e9 \u4e2d",
        "numbers": [0, 1, 300, -5, 2**40, 0.5, True, None],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "counter": collections.Counter({"a": 2, "b": 1}),
        "ordered": collections.OrderedDict([("x", 1), ("y", 2)]),
        "rows": numbers.reshape(2, 3),
        "columns": np.asfortranarray(numbers.reshape(2, 3)),
        "big endian": numbers.astype(">f8"),
        "empty": np.zeros((0, 3)),
        "scalars": [np.int64(7), np.float32(0.5)],
        3: b"bytes\xff" if protocol else None,
    }
    content["same"] = content["numbers"]
    path = write_pickle(pickle.dumps(content, protocol))
    assert arrays_as_lists(read_plain_pickle(path)) == arrays_as_lists(
        {
            **content,
            **{key: value.tolist() for key, value in content.items() if isinstance(value, np.ndarray)},
            "scalars": [7, 0.5],
        }
    )
    assert is_pickle(path)


def test_python_2_and_old_numpy(write_pickle: WritePickle) -> None:
    """The instructions that Python 2 writes for {"id2vec": {0: numpy.array([1, -2], "f4")}}, protocol 2."""
    data = struct.pack("<2f", 1, -2)
    content = (
        b"\x80\x02}U\x06id2vec}K\x00cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08" + data + b"tbss."
    )
    assert arrays_as_lists(read_plain_pickle(write_pickle(content))) == {"id2vec": {0: [1, -2]}}


class _Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("named", "function", "arguments"),
    [
        (f"{os.system.__module__}.system", os.system, ("touch MARKER",)),
        ("eval", eval, ("open('MARKER', 'w')",)),
        ("exec", exec, ("open('MARKER', 'w')",)),
        ("Popen", subprocess.Popen, (["touch", "MARKER"],)),
        ("functools.partial", functools.partial, (os.system, "touch MARKER")),
        ("getattr", getattr, ("text", "upper")),
        ("numpy.load", np.load, ("x.npy",)),
        ("io.open|_io.open", io.open, ("MARKER", "w")),
        ("fromstring|frombuffer", np.frombuffer, (b"1234",)),
    ],
)
def test_what_would_run_is_refused_by_name(
    write_pickle: WritePickle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    protocol: int,
    named: str,
    function: Any,
    arguments: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_pickle(pickle.dumps({"w2id": {}, "id2vec": [_Calls(function, *arguments)]}, protocol))
    with pytest.raises(ValueError, match=rf"glove\.pkl: it names .*({named}).*could run code"):
        read_plain_pickle(path)
    assert [file.name for file in tmp_path.iterdir()] == ["glove.pkl"]


_ARRAY = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
_FLOAT = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cos\nsystem\n(S'touch MARKER'\ntR.", "it names os.system"),
        (b"(S'touch MARKER'\nios\nsystem\n.", "it uses the instruction INST of os.system"),
        (b"(cos\nsystem\nS'touch MARKER'\no.", "it names os.system"),
        (b"\x80\x04\x8c\x0bnumpy.f2py_\x8c\x06system\x93.", r"it names numpy\.f2py_\.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0bload.system\x93.", r"it names numpy\.load\.system"),
        (b"\x80\x02ccollections\nCounter\n)\x81.", "it uses the instruction NEWOBJ"),
        (b"\x80\x02}\x82\x01.", "it uses the instruction EXT1"),
        (b"Pfile\n.", "it uses the instruction PERSID of file"),
        (b"\x80\x02}}b.", "it sets the state of an object"),
        (b"\x80\x02cnumpy\nndarray\n)R.", r"it calls numpy\.ndarray"),
        (b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.", "it has an array of type 'O'"),
        (b"\x80\x02cnumpy\ndtype\nX\x04\x00\x00\x00V999\x85R.", "it has an array of type 'V999'"),
        (_ARRAY + b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85" + _FLOAT + b"\x89C\x04\0\0\0\0tb.", "has 1 numbers"),
        (_ARRAY + b"K\x01\x85" + _FLOAT + b"\x89]tb.", "something else than numbers"),
        (b"\x80\x02}\x85}s.", "complete pickle|state"),
        (b"\x80\x02})\x85K\x01s.", "it has a key of type tuple"),
        (b"\x80\x04C\x04none.", None),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00abc.", "is no complete pickle"),
        (b"\x80\x04]r\xff\xff\xff\xff.", None),
        (b"\x80\x04]\x94", "is no complete pickle"),
        (b"\x80\x02\x8b\x00\x10\x00\x00" + b"\x7f" * 4096 + b".", "a number of over 64 bits"),
        (b"L" + b"9" * 10000 + b"L\n.", "is no complete pickle"),
        (b"\x80\x02h\x05.", "is no complete pickle"),
        (b"\x80\x02R.", "is no complete pickle"),
        (b"\x80\x02K\x01K\x02.", "is no complete pickle"),
        (b"", "is no complete pickle"),
        (b"\xff\xfe", "is no complete pickle"),
    ],
)
def test_hand_made_pickles(write_pickle: WritePickle, content: bytes, message: str | None) -> None:
    path = write_pickle(content)
    if message is None:
        read_plain_pickle(path)
        return
    with pytest.raises(ValueError, match=rf"glove\.pkl.*{message}"):
        read_plain_pickle(path)


def test_a_text_that_is_turned_to_bytes_again_and_again(write_pickle: WritePickle) -> None:
    text = b"X\x00\x10\x00\x00" + b"a" * 4096 + b"q\x00"
    again = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    with pytest.raises(ValueError, match="it writes the same text again and again"):
        read_plain_pickle(write_pickle(b"\x80\x02(" + text + again * 1000 + b"l."))


def test_keys_that_take_for_ever_to_hash(write_pickle: WritePickle) -> None:
    """A tuple of two references to the last, sixty times."""
    nested = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) + b"0" for i in range(60))
    with pytest.raises(ValueError, match="it has a key of type tuple"):
        read_plain_pickle(write_pickle(b"\x80\x02})q\x000" + nested + b"h\x3cK\x01s."))


@pytest.mark.parametrize("missing", [1, 2, 9, 60, 300])
def test_truncated(write_pickle: WritePickle, missing: int) -> None:
    content = pickle.dumps({"id2vec": [np.ones(30), np.ones(31)], "w2id": {"person": 1}}, 4)
    with pytest.raises(ValueError, match=r"glove\.pkl is no complete pickle .*get the file again"):
        read_plain_pickle(write_pickle(content[:-missing]))


def test_text_files_are_no_pickles(tmp_path: Path) -> None:
    for content in ("the 0.1 0.2\n", "( 0.1 0.2\n", "c 0.1\n", ""):
        path = tmp_path / "glove.txt"
        path.write_text(content)
        assert not is_pickle(path)
