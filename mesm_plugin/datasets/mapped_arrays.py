# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Reading the arrays of a packed HDF5 file from a memory map."""

import io
import mmap
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

# Linux maps pages around those that are touched, too, never beyond the two MiB of one page table.
_GIVEN_BACK = 2**21
# So many matrices of a table are looked up in HDF5.
_SAMPLE = 64


class MappedArrays:
    """Where the matrices of a packed HDF5 file lie in it, and a read-only map of the file.

    Data loader workers that are forked inherit table and map, and all processes read the same pages of the system's
    file cache: a feature is in memory once. What was copied from the map is given back at once, so that the resident
    memory of a process does not grow with what it has read. The table is held in NumPy arrays of some 40 bytes a matrix
    instead of Python objects, whose reference counts would make each worker copy it.

    Args:
        path: Of the file.
        stamp: Size in bytes, time of change in ns and inode of the file that the table is of.
        table: See `table_of`.
    """

    def __init__(self, path: Path, stamp: tuple[int, int, int], table: dict[str, np.ndarray]) -> None:
        self.path = path
        self._stamp = stamp
        self._keys, self._offsets, self._shapes = table["keys"], table["offsets"], table["shapes"]
        self._dtypes, self._kinds = table["dtypes"], [np.dtype(str(kind)) for kind in table["kinds"]]
        self._token_ids, self._token_ends = table["token_ids"], table["token_ends"]
        self._map: mmap.mmap | None = None

    @classmethod
    def listed(cls, path: Path, file: Any) -> "MappedArrays | None":
        """The arrays of an open `h5py.File`, by the table at the end of the file; None if it has none of its own."""
        try:
            table = _appended_table(path)
            return cls._checked(path, file, table) if _is_table(table) and _agrees(table, file) else None
        # Damaged archives raise nearly everything.
        except Exception:
            return None

    @classmethod
    def of(cls, path: Path, file: Any) -> "MappedArrays | None":
        """The arrays of an open `h5py.File`, which are looked for without reading them.

        Returns:
            None if the file was not made by `pack_features`, which checked every number, or if it does not hold what
            that wrote: then it is to be read by HDF5, which tells what is wrong.
        """
        if "fingerprint" not in file.attrs:
            return None
        table = table_of(file)
        return None if table is None else cls._checked(path, file, table)

    @classmethod
    def _checked(cls, path: Path, file: Any, table: dict[str, np.ndarray]) -> "MappedArrays | None":
        count = file.attrs.get("count")
        if "fingerprint" not in file.attrs or count != len(table["keys"]) or file.id.get_create_plist().get_userblock():
            return None
        mapped = cls(path, _stamp_of(os.fstat(file.id.get_vfd_handle())), table)
        return mapped if mapped._fits() else None

    def _fits(self) -> bool:
        """Whether all arrays lie in the file."""
        itemsizes = np.array([kind.itemsize for kind in self._kinds])[self._dtypes]
        ends = self._offsets + self._shapes.prod(axis=1) * itemsizes
        return bool((self._offsets > 0).all() and (self._shapes > 0).all() and (ends <= self._stamp[0]).all())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_map": None}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return self._place(key) is not None

    def shape(self, key: str) -> tuple[int, int] | None:
        """Of the matrix of `key`; None if it is not there."""
        place = self._place(key)
        if place is None:
            return None
        rows, columns = self._shapes[place].tolist()
        return rows, columns

    def token_ids(self, key: str) -> np.ndarray | None:
        """(L,) int64, the attribute of that name of the matrix of `key`, which has to be there; None if it has none."""
        place = self._require(key)
        ids = self._token_ids[self._token_ends[place - 1] if place else 0 : self._token_ends[place]]
        return ids if len(ids) else None

    def read(self, key: str) -> np.ndarray:
        """A copy of the matrix of `key`, which has to be there.

        Raises:
            OSError: The file is not there any more, or has changed since it was opened.
        """
        place = self._require(key)
        pages = self._mapped()
        shape, dtype = self._shapes[place], self._kinds[self._dtypes[place]]
        begin = int(self._offsets[place])
        end = begin + int(shape[0] * shape[1]) * dtype.itemsize
        # Pages behind the end of a file that was cut off kill the process that touches them.
        if pages.size() < end:
            raise OSError(f"{self.path} was cut off while it was being read; copy it again and start anew")
        array = np.ndarray(tuple(shape), dtype, pages, begin).copy()
        if hasattr(pages, "madvise"):
            first = begin - begin % _GIVEN_BACK
            last = min(end + -end % _GIVEN_BACK, len(pages))
            pages.madvise(mmap.MADV_DONTNEED, first, last - first)
        return array

    def _mapped(self) -> mmap.mmap:
        if self._map is None:
            with open(self.path, "rb") as file:
                if _stamp_of(os.fstat(file.fileno())) != self._stamp:
                    raise OSError(f"{self.path} has changed since it was opened; start anew")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def _require(self, key: str) -> int:
        place = self._place(key)
        if place is None:
            raise KeyError(key)
        return place

    def _place(self, key: str) -> int | None:
        name = key.encode("utf-8", "surrogatepass")
        # NumPy pads with zero bytes, and would copy all keys to compare them with a longer one.
        if len(name) > self._keys.dtype.itemsize or name.endswith(b"\0"):
            return None
        wanted = np.array(name, self._keys.dtype)
        place = int(self._keys.searchsorted(wanted))
        return place if place < len(self._keys) and self._keys[place] == wanted else None


def table_of(file: Any) -> dict[str, np.ndarray] | None:
    """Where the n matrices of an open `h5py.File` lie, which takes the longer the more there are.

    Returns:
        `keys` (n,) names, UTF-8, ascending; `offsets` (n,) int64, the first byte of each matrix; `shapes` (n, 2) int64;
        `dtypes` (n,) uint8, places in `kinds`, the different dtypes as NumPy writes them; `token_ids` int64, all
        attributes of that name one after the other, and `token_ends` (n,) int64, where those of each matrix end. None
        if the file holds anything else than whole matrices of numbers in one piece.
    """
    import h5py

    names: list[bytes] = []
    file.id.links.iterate(names.append)
    names.sort()
    count = len(names)
    if count == 0:
        return None
    offsets, shapes = np.empty(count, np.int64), np.empty((count, 2), np.int64)
    dtypes = np.empty(count, np.uint8)
    kinds: list[str] = []
    tokens: list[np.ndarray] = []
    for place, name in enumerate(names):
        data = h5py.h5o.open(file.id, name)
        if not isinstance(data, h5py.h5d.DatasetID) or data.rank != 2:
            return None
        dtype, shape, offset = data.dtype, data.shape, data.get_offset()
        size = shape[0] * shape[1] * dtype.itemsize
        if dtype.kind not in "fiu" or not size or offset is None or data.get_storage_size() != size:
            return None
        ids = _token_ids_of(data)
        if ids.dtype.kind not in "iu" or ids.shape not in ((0,), shape[:1]):
            return None
        if dtype.str not in kinds:
            kinds.append(dtype.str)
        offsets[place], shapes[place], dtypes[place] = offset, shape, kinds.index(dtype.str)
        tokens.append(ids)
    return {
        "keys": np.array(names),
        "offsets": offsets,
        "shapes": shapes,
        "dtypes": dtypes,
        "kinds": np.array(kinds),
        "token_ids": np.concatenate(tokens).astype(np.int64),
        "token_ends": np.cumsum([len(ids) for ids in tokens]),
    }


def appended(table: dict[str, np.ndarray]) -> bytes:
    """What to write behind the end of an HDF5 file, where HDF5 does not look, so that its table need not be made again.

    It is an archive as of `numpy.savez`. HDF5 cuts it off when the file is changed.
    """
    archive = io.BytesIO()
    np.savez(archive, allow_pickle=False, **table)
    return archive.getvalue()


def _appended_table(path: Path) -> dict[str, np.ndarray]:
    table = {}
    with zipfile.ZipFile(path) as archive:
        # It would be that of another file, appended to this one.
        if archive.infolist()[0].header_offset != _end_of_hdf5(path):
            return {}
        for name in archive.namelist():
            with archive.open(name) as member:
                table[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
    return table


def _is_table(table: dict[str, np.ndarray]) -> bool:
    if table.keys() != {"keys", "offsets", "shapes", "dtypes", "kinds", "token_ids", "token_ends"}:
        return False
    count = len(table["keys"])
    shapes = {"keys": (count,), "offsets": (count,), "shapes": (count, 2), "dtypes": (count,), "token_ends": (count,)}
    return count > 0 and all(table[name].shape == shape for name, shape in shapes.items())


def _end_of_hdf5(path: Path) -> int | None:
    """Where HDF5's own bytes end, by its superblock; None for other forms of it than those that h5py writes."""
    with open(path, "rb") as file:
        start = file.read(52)
    version = start[8]
    sizes, place = (start[13], 40 + 4 * version) if version < 2 else (start[9], 28)
    return int.from_bytes(start[place : place + 8], "little") if sizes == 8 else None


def _agrees(table: dict[str, np.ndarray], file: Any) -> bool:
    """Whether HDF5 has as many matrices, and those of a sample where the table has them.

    To look at each would take as long as to make the table.
    """
    import h5py

    keys = table["keys"]
    if len(file) != len(keys):
        return False
    for place in np.unique(np.linspace(0, len(keys) - 1, _SAMPLE, dtype=np.int64)).tolist():
        data = h5py.h5o.open(file.id, bytes(keys[place]))
        first = table["token_ends"][place - 1] if place else 0
        if (
            data.shape != tuple(table["shapes"][place])
            or data.dtype.str != table["kinds"][table["dtypes"][place]]
            or data.get_offset() != table["offsets"][place]
            or not np.array_equal(_token_ids_of(data), table["token_ids"][first : table["token_ends"][place]])
        ):
            return False
    return True


def _token_ids_of(data: Any) -> np.ndarray:
    """The attribute `token_ids`; empty if there is none."""
    import h5py

    if not h5py.h5a.exists(data, b"token_ids"):
        return np.empty(0, np.int64)
    attribute = h5py.h5a.open(data, b"token_ids")
    ids = np.empty(attribute.shape, attribute.dtype)
    attribute.read(ids)
    return ids


def _stamp_of(state: os.stat_result) -> tuple[int, int, int]:
    return state.st_size, state.st_mtime_ns, state.st_ino
