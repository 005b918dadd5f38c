# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Checks the features of many files and writes them into one HDF5 file."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from mesm_plugin import __version__
from mesm_plugin.datasets.arrays import checked_sequence
from mesm_plugin.datasets.feature_packing.disk_file import DiskFile
from mesm_plugin.datasets.feature_packing.journal import ArrayJournal
from mesm_plugin.datasets.feature_packing.sources import Entry
from mesm_plugin.datasets.mapped_arrays import appended, table_of
from mesm_plugin.utils import write_json

Track = Callable[[Sequence[Entry], str], Iterable[Entry]]


def _untracked(entries: Sequence[Entry], what: str) -> Iterable[Entry]:
    return entries


@dataclass
class Packed:
    """What a run packed.

    Attributes:
        lengths: Clips or words of each id in the file.
        channels: Of all features.
        dtypes: Number of ids by dtype.
        left_out: Id of what was left out -> its place and what is wrong with it.
        kept: How many an earlier run had finished.
        discarded: How many an earlier run had finished with other options, which were read again.
        change: Largest change of a value by conversion to another dtype; None if nothing was converted.
        up_to_date: Whether the file was there already.
    """

    lengths: dict[str, int] = field(default_factory=dict)
    channels: int = 0
    dtypes: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, tuple[str, str]] = field(default_factory=dict)
    kept: int = 0
    discarded: int = 0
    change: float | None = None
    up_to_date: bool = False


def parts_folder(output: Path) -> Path:
    """Where finished arrays are kept until the file is written."""
    return output.with_name(output.name + ".parts")


def left_out_file(output: Path) -> Path:
    """Where a list of what was left out is written."""
    return output.with_name(output.name + ".left_out.json")


def pack_features(
    entries: Sequence[Entry],
    output: Path,
    *,
    sources: Sequence[str] = (),
    key: str | None = None,
    dtype: str | None = None,
    dim: int | None = None,
    row: str = "clip",
    token_ids: Mapping[str, Sequence[int]] = MappingProxyType({}),
    skip: bool = False,
    overwrite: bool = False,
    track: Track = _untracked,
    unreadable: Mapping[Path, str] = MappingProxyType({}),
) -> Packed:
    """Packs features into an HDF5 file with one data set (L, D) per id, which appears only when it is whole.

    Until then what is finished is kept in `parts_folder`, so that a run after an interruption reads only the rest. The
    file says in its attributes what it was made from, and an attribute `token_ids` of a source's data set is kept.

    Args:
        entries: What to pack.
        output: The HDF5 file.
        sources: What the user named, for the attributes.
        key: As it was chosen, for the attributes.
        dtype: "float16" or "float32" to convert to; None for dtypes as they are stored.
        dim: Channels that all have to have; None for those that the first has, or, with `skip`, the most have.
        row: What a row is: "clip" or "word".
        token_ids: For each id the tokens of its words, which become the attribute `token_ids` of its data set.
        skip: Leaves out what cannot be read or used, and lists it in `left_out_file`, instead of raising.
        overwrite: Replaces a file that has something else.
        track: Wraps the entries that are worked on, to show progress; called with them and "reading" or "writing".
        unreadable: HDF5 files among the sources whose ids are not known, and why.

    Raises:
        OSError, ValueError: Features cannot be read or used, and `skip` is not set; or `output` cannot be written, or
            holds something else. The message names the file.
    """
    if unreadable and not skip:
        raise ValueError(
            next(iter(unreadable.values())) + "; mend or remove the file, or leave it out with --on-error skip"
        )
    options: dict[str, Any] = {"format": 1, "dtype": dtype, "key": key}
    if token_ids:
        options["token_ids"] = hashlib.sha256(json.dumps(sorted(token_ids.items())).encode()).hexdigest()
    fingerprint = _fingerprint(entries, options)
    there = _existing(output)
    parts = parts_folder(output)
    # An attribute of HDF5 takes 64 KB at most.
    named = [*sources[:20], *([f"and {len(sources) - 20} more"] if len(sources) > 20 else [])]
    if there is not None:
        incomplete = bool(there.get("left_out", 0))
        if there.get("fingerprint") == fingerprint and not unreadable and not incomplete:
            shutil.rmtree(parts, ignore_errors=True)
            packed = _read_back(output)
            _check_dim(packed.channels, dim, output)
            return packed
        if not overwrite and not (incomplete and list(there.get("sources", ())) == named):
            raise ValueError(
                f"{output} exists and was not made from these sources as they are now with these options; --overwrite "
                "replaces it"
            )
    with ArrayJournal(parts, options) as journal:
        packed = Packed(discarded=journal.discarded)
        packed.left_out.update({str(file): (str(file), problem) for file, problem in unreadable.items()})
        pending = [entry for entry in entries if not _is_finished(journal, entry)]
        packed.kept = len(entries) - len(pending)
        reader = _Reader(journal, dtype, dim, row, token_ids, skip)
        if not skip:
            reader.expect_width_of(entries)
        for entry in track(pending, "reading"):
            try:
                reader.keep(entry)
            except _DiskError as error:
                raise error.error from error
            except (OSError, ValueError, MemoryError) as error:
                problem = _message(error, entry)
                if not skip:
                    finished = sum(_is_finished(journal, other) for other in entries)
                    raise ValueError(
                        f"{problem}\n{finished} of {len(entries)} are finished and kept in {parts}; mend or remove the "
                        "file and run the same command again, or leave such files out with --on-error skip"
                    ) from error
                packed.left_out[entry.id] = (entry.place, problem)
        _leave_out_odd_widths(packed, journal, entries, dim)
        chosen = [entry for entry in entries if entry.id not in packed.left_out]
        if not chosen:
            _list_left_out(output, packed)
            raise ValueError(
                f"none of {len(entries)} files can be packed; the first problem: {_first(packed.left_out)}"
            )
        provenance = {
            "sources": named,
            "key": key or "",
            "dtype": dtype or "as stored",
            "left_out": len(packed.left_out),
            "fingerprint": _fingerprint(chosen, options),
        }
        _write(output, parts, journal, chosen, packed, provenance, track)
    if not packed.left_out:
        # With something left out, a run after it is mended goes on from what is finished.
        shutil.rmtree(parts, ignore_errors=True)
    _list_left_out(output, packed)
    return packed


class _DiskError(Exception):
    """The output cannot be written, which no skipping of sources mends."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Reader:
    """Reads, checks, converts and keeps entries."""

    def __init__(
        self,
        journal: ArrayJournal,
        dtype: str | None,
        dim: int | None,
        row: str,
        token_ids: Mapping[str, Sequence[int]],
        skip: bool,
    ) -> None:
        self.journal = journal
        self.dtype = dtype
        self.dim = dim
        self.row = row
        self.token_ids = token_ids
        self.skip = skip
        self.first: str | None = None
        self.container: Any = None

    def expect_width_of(self, entries: Sequence[Entry]) -> None:
        """Takes the width of those that are finished as expected, or raises if it is not `dim`."""
        for entry in entries:
            if _is_finished(self.journal, entry):
                self._check_width(entry, self.journal.records[entry.id].shape[1])

    def keep(self, entry: Entry) -> None:
        """Keeps the array of `entry` in the journal."""
        if entry.container is None or entry.container[0] is not self.container:
            if self.container is not None:
                self.container.close()
            self.container = entry.container[0] if entry.container else None
        array = entry.read()
        if array.ndim == 1 and entry.key == "pooler_output":
            # One vector for the whole sentence.
            array = array[None]
        checked = checked_sequence(array, entry.place, self.row)
        self._check_width(entry, array.shape[1])
        info: dict[str, Any] = {"origin": entry.origin}
        if self.dtype is not None and array.dtype != self.dtype:
            with np.errstate(over="ignore"):
                converted = array.astype(self.dtype)
            if not np.isfinite(converted).all():
                raise ValueError(f"{entry.place}: {np.abs(checked).max():g} is beyond {self.dtype}; take float32")
            info["change"] = float(np.abs(array.astype(np.float64) - converted.astype(np.float64)).max())
            array = converted
        ids = entry.token_ids()
        if entry.id in self.token_ids:
            ids = np.asarray(self.token_ids[entry.id])
            if len(ids) != len(array):
                raise ValueError(
                    f"{entry.place} has {len(array)} words, but the sentence of query {entry.id} has {len(ids)} "
                    "tokens, start and end included; the features are of another text or tokeniser"
                )
        if ids is not None:
            if ids.shape != (len(array),) or ids.dtype.kind not in "iu":
                raise ValueError(
                    f"{entry.place}: the attribute 'token_ids' is {ids.dtype} of shape {ids.shape}, expected "
                    f"{len(array)} integers, one per word"
                )
            info["token_ids"] = ids.tolist()
        try:
            self.journal.add(entry.id, array, info)
        except OSError as error:
            raise _DiskError(error) from error

    def _check_width(self, entry: Entry, width: int) -> None:
        if self.dim is None and not self.skip:
            self.dim, self.first = width, entry.place
        if self.dim is not None and width != self.dim:
            wanted = f"as {self.first} has; --dim says which is right" if self.first else "as --dim says"
            raise ValueError(f"{entry.place}: the features have {width} channels, expected {self.dim}, {wanted}")


def _is_finished(journal: ArrayJournal, entry: Entry) -> bool:
    record = journal.records.get(entry.id)
    return record is not None and record.info.get("origin") == entry.origin


def _fingerprint(entries: Iterable[Entry], options: dict[str, Any]) -> str:
    content = json.dumps([options, sorted([entry.id, *entry.origin] for entry in entries)])
    return hashlib.sha256(content.encode()).hexdigest()


def _message(error: Exception, entry: Entry) -> str:
    if isinstance(error, MemoryError):
        return f"{entry.place} needs more memory than there is; is the file damaged?"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{entry.place} cannot be read: {error.strerror}"
    return str(error)


def _first(left_out: dict[str, tuple[str, str]]) -> str:
    return next((problem for _, problem in left_out.values()), "there is no file")


def _existing(output: Path) -> dict[str, Any] | None:
    """The attributes of a file that exists; none if it is no HDF5 file."""
    import h5py

    if not output.exists():
        return None
    if not output.is_file():
        kind = "a folder" if output.is_dir() else "a device or pipe"
        raise ValueError(f"--out {output} is {kind}, expected the path of a file")
    try:
        with h5py.File(output, "r") as file:
            return dict(file.attrs)
    except OSError:
        return {}


def _read_back(output: Path) -> Packed:
    import h5py

    packed = Packed(up_to_date=True)
    with h5py.File(output, "r") as file:
        for name, data in file.items():
            packed.lengths[name] = len(data)
            packed.channels = data.shape[1]
            packed.dtypes[str(data.dtype)] += 1
    packed.kept = len(packed.lengths)
    return packed


def _check_dim(channels: int, dim: int | None, output: Path) -> None:
    if dim is not None and channels != dim:
        raise ValueError(f"{output}: the features have {channels} channels, expected {dim}, as --dim says")


def _leave_out_odd_widths(packed: Packed, journal: ArrayJournal, entries: Sequence[Entry], dim: int | None) -> None:
    widths = {entry.id: journal.records[entry.id].shape[1] for entry in entries if entry.id not in packed.left_out}
    if not widths:
        return
    packed.channels = dim or Counter(widths.values()).most_common(1)[0][0]
    for entry in entries:
        width = widths.get(entry.id, packed.channels)
        if width != packed.channels:
            wanted = "--dim says" if dim else "most files have"
            problem = f"{entry.place}: the features have {width} channels, expected {packed.channels}, as {wanted}"
            packed.left_out[entry.id] = (entry.place, problem)


def _write(
    output: Path,
    parts: Path,
    journal: ArrayJournal,
    entries: Sequence[Entry],
    packed: Packed,
    provenance: dict[str, Any],
    track: Track,
) -> None:
    import h5py

    # Among the parts, so that a run after one that was killed while writing replaces it.
    unfinished = parts / "output.tmp"
    try:
        # What describes the data sets lies together, so that listing them does not read all over the file.
        together = min(max(2**11, 2**9 * len(entries)), 2**20)
        with (
            open(unfinished, "w+b", buffering=0) as raw,
            h5py.File(target := DiskFile(raw), "w", meta_block_size=together) as file,
        ):
            for entry in track(sorted(entries, key=lambda entry: entry.id), "writing"):
                array, info = journal.read(entry.id), journal.records[entry.id].info
                data = file.create_dataset(entry.id, data=array)
                if "token_ids" in info:
                    data.attrs["token_ids"] = np.asarray(info["token_ids"], dtype=np.int64)
                packed.lengths[entry.id] = len(array)
                packed.dtypes[str(array.dtype)] += 1
                if "change" in info:
                    packed.change = max(packed.change or 0.0, info["change"])
                target.check()
            versions = {"mesm_plugin": __version__, "h5py": h5py.__version__, "numpy": np.__version__}
            created = datetime.now(timezone.utc).isoformat(timespec="seconds")
            size = {"count": len(entries), "channels": packed.channels}
            file.attrs.update(provenance | size | {"created": created, "versions": json.dumps(versions)})
            file.flush()
            target.check()
            table = table_of(file)
            file.close()
            target.check()
            if table is not None:
                raw.seek(0, os.SEEK_END)
                target.write(appended(table))
                target.check()
            os.fsync(raw.fileno())
        os.replace(unfinished, output)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        reason = f"{error.strerror or error}; what is finished is kept in {parts}, run the same command again"
        raise OSError(error.errno, reason, str(output)) from error


def _list_left_out(output: Path, packed: Packed) -> None:
    path = left_out_file(output)
    if not packed.left_out:
        path.unlink(missing_ok=True)
        return
    listed = [{"id": id_, "file": place, "problem": problem} for id_, (place, problem) in packed.left_out.items()]
    write_json(path, listed)
