# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which features folders and files hold, by id."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mesm_plugin.datasets.array_files import ENDINGS, USUAL_KEYS, read_array
from mesm_plugin.datasets.hdf5 import HDF5_ENDINGS, HDF5File
from mesm_plugin.utils import listed

_ALL_ENDINGS = (*ENDINGS, *HDF5_ENDINGS)
_VIDEO_ENDINGS = (".avi", ".mkv", ".mov", ".mp4", ".mpg", ".webm")


@dataclass(frozen=True)
class Entry:
    """The features of one video or query, not read yet.

    Attributes:
        id: Of the video or query.
        file: That holds them.
        size: Of the file, in bytes.
        modified: When the file was changed last, in nanoseconds.
        key: Of the array in the file, if it holds several; None for the usual one.
        container: The file and the name in it, if it is an HDF5 file.
    """

    id: str
    file: Path
    size: int
    modified: int
    key: str | None = None
    container: tuple[HDF5File, str] | None = None

    @property
    def place(self) -> str:
        """For messages."""
        return str(self.file) if self.container is None else f"{self.file}, data set {self.container[1]}"

    @cached_property
    def origin(self) -> list[str | int]:
        """What says whether the features are still those that were read: file, size and time."""
        return [os.path.abspath(self.file), self.size, self.modified]

    def read(self) -> np.ndarray:
        """The array, as it is stored.

        Raises:
            OSError, ValueError: It cannot be read, or it is not clear which array is meant; the message names the file.
        """
        if self.container is None:
            return read_array(self.file, self.key)
        file, name = self.container
        return file.read(self._data_set(file, name))

    def token_ids(self) -> np.ndarray | None:
        """The attribute of that name, which HDF5 files of word features can have."""
        if self.container is None:
            return None
        file, name = self.container
        return file.attribute(self._data_set(file, name), "token_ids")

    def _data_set(self, file: HDF5File, name: str) -> str:
        """A data set of the name itself, or the one in the group of that name which the key says."""
        held = file.group(name)
        if held is None:
            return name
        choice = self.key if self.key is not None else next((key for key in USUAL_KEYS if key in held), None)
        if choice is None and len(held) == 1:
            choice = held[0]
        if choice is None or choice not in held:
            raise ValueError(f"{self.place} is a group of {', '.join(held) or 'nothing'}; choose one with --key")
        return f"{name}/{choice}"


@dataclass
class Found:
    """What sources hold.

    Attributes:
        entries: In order of their sources, then of their ids.
        unreadable: HDF5 files that could not be opened, and why.
        notes: What a user should know about how ids were read.
        of_queries: Whether the ids were recognised as those of queries.
    """

    entries: list[Entry] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    of_queries: bool = False


def find_entries(
    sources: Sequence[str | Path],
    key: str | None = None,
    ending: str | None = None,
    recursive: bool = False,
    prefix: str | None = None,
    output: Path | None = None,
    videos: Collection[str] = (),
) -> Found:
    """Finds the features in folders and files, without reading them.

    The id is the name of a file without its last ending, whatever dots and blanks it has, or the name of a data set in
    an HDF5 file. Where all ids are "qid" and a number, as in Moment-DETR's files of sentences, they are the number.
    An id that is an annotated one but for the ending of a video file is that one, "s13-d21" for instance "s13-d21.avi".
    Hidden files and files with other endings are passed over.

    Args:
        sources: Folders with an `.npz`, `.npy`, `.pt` or `.pth` file per id or with HDF5 files, and such files.
        key: Of the array in files that hold several.
        ending: Which files of a folder count, such as ".npz", where it has several kinds.
        recursive: Takes the files of all sub-folders, too.
        prefix: What the ids begin with and is taken off; None for "qid" before numbers, as above.
        output: A file that is no source, if it lies in a folder.
        videos: Annotated ids of videos.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: A source has no features, files of several kinds or sub-folders, or two files have the same id.
    """
    if ending is not None:
        ending = "." + ending.lower().removeprefix(".")
        if ending not in _ALL_ENDINGS:
            raise ValueError(f"--ending is {ending}, expected one of {', '.join(_ALL_ENDINGS)}")
    found = Found()
    for source in map(Path, sources):
        if source.is_dir():
            files = _files_of(source, ending, recursive, output)
        elif not source.exists():
            raise FileNotFoundError(f"there is no file or folder {source}; name the folder or file with the features")
        elif source.suffix.lower() not in _ALL_ENDINGS:
            raise ValueError(f"{source} is no file of features; expected a folder or one of {', '.join(_ALL_ENDINGS)}")
        else:
            files = [source]
        if output is not None and _same(source, output):
            raise ValueError(f"--out {output} is a source, too; write to another file")
        for file in files:
            _add(found, file, key)
    _take_off_prefix(found, prefix)
    _name_as_annotated(found, videos)
    _refuse_duplicates(found.entries)
    return found


def _files_of(folder: Path, ending: str | None, recursive: bool, output: Path | None) -> list[Path]:
    files = [file for file in _walk(folder) if output is None or not _same(file, output)]
    if ending is not None:
        files = [file for file in files if file.suffix.lower() == ending]
    deeper = [file for file in files if file.parent != folder]
    if deeper and not recursive:
        folders = sorted({file.relative_to(folder).parts[0] for file in deeper})
        raise ValueError(
            f"{folder} has feature files in sub-folders ({listed(folders, 5)}); name one of them as the source, or "
            "take all with --recursive"
        )
    if not files:
        what = ending or ", ".join(_ALL_ENDINGS)
        others = Counter(path.suffix or "no ending" for path in folder.iterdir())
        held = ", ".join(f"{count} with {kind}" for kind, count in others.most_common(4)) or "nothing"
        raise ValueError(f"{folder} has no feature files ({what}); it holds {held}")
    kinds = Counter(".hdf5" if file.suffix.lower() in HDF5_ENDINGS else file.suffix.lower() for file in files)
    if len(kinds) > 1:
        held = " and ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        raise ValueError(
            f"{folder} has {held} files; say which ones are meant with --ending {kinds.most_common()[0][0]}"
        )
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """Files of features in a folder and all below it, sorted by name; hidden ones left out."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in _ALL_ENDINGS:
                yield Path(parent, name)


def _add(found: Found, file: Path, key: str | None) -> None:
    try:
        status = file.stat()
        size, modified = status.st_size, status.st_mtime_ns
    except OSError:
        # A link to nowhere: reading it says so, as for any other file that cannot be read.
        size, modified = -1, -1
    if file.suffix.lower() not in HDF5_ENDINGS:
        found.entries.append(Entry(_checked_id(file.stem, file), file, size, modified, key))
        return
    container = HDF5File(file, "feature file")
    try:
        names = sorted(container)
    except (OSError, ValueError) as error:
        found.unreadable[file] = str(error)
        return
    finally:
        container.close()
    if not names:
        found.unreadable[file] = f"{file} holds no data sets"
    found.entries += [Entry(name, file, size, modified, key, (container, name)) for name in names]


def _checked_id(id_: str, file: Path) -> str:
    try:
        id_.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{str(file)!r}: the name is not UTF-8; rename the file") from error
    return id_


def _take_off_prefix(found: Found, prefix: str | None) -> None:
    entries = found.entries
    if prefix is None and entries and all(re.fullmatch(r"qid\d+", entry.id) for entry in entries):
        prefix, found.of_queries = "qid", True
        found.notes.append(f"ids are the numbers behind 'qid': {entries[0].id} is query {entries[0].id[3:]}")
    if not prefix:
        return
    for entry in entries:
        if not entry.id.startswith(prefix) or entry.id == prefix:
            raise ValueError(f"{entry.place}: the id {entry.id!r} does not begin with --id-prefix {prefix!r}")
    found.entries = [replace(entry, id=entry.id[len(prefix) :]) for entry in entries]


def _name_as_annotated(found: Found, videos: Collection[str]) -> None:
    held = {entry.id for entry in found.entries}
    times = Counter(map(_without_video_ending, videos))
    annotated = {short: vid for vid in videos if vid not in held and times[short := _without_video_ending(vid)] == 1}
    named = {
        id_: annotated[short] for id_ in held.difference(videos) if (short := _without_video_ending(id_)) in annotated
    }
    if named:
        id_, vid = min(named.items())
        found.notes.append(f"{len(named)} ids are annotated ones but for the ending of a video: {id_} is {vid}")
        found.entries = [replace(entry, id=named.get(entry.id, entry.id)) for entry in found.entries]


def _without_video_ending(id_: str) -> str:
    name, ending = os.path.splitext(id_)
    return name if ending.lower() in _VIDEO_ENDINGS else id_


def _refuse_duplicates(entries: Sequence[Entry]) -> None:
    first: dict[str, Entry] = {}
    twice = [(first[entry.id], entry) for entry in entries if first.setdefault(entry.id, entry) is not entry]
    if twice:
        one, other = twice[0]
        more = f"; {len(twice)} ids occur again" if len(twice) > 1 else ""
        raise ValueError(f"{one.id} is in both {one.place} and {other.place}; name one of them only{more}")


def _same(file: Path, other: Path) -> bool:
    return file.exists() and other.exists() and file.samefile(other)
