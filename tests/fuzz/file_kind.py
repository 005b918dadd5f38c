# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A kind of file that the package reads, and what has to hold for a broken one."""

import random
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger

from mesm_plugin.cli.errors import readable

SECONDS = 10
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "pickle.find_class")


class BadReading(BaseException):
    """A file was not read as it should be. No reader that catches exceptions may catch this one."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: For messages and the command line.
        write: Writes a good file, and what else `read` needs, to a folder; returns the file.
        read: Reads the file as far as it is ever read, and raises AssertionError if what was accepted is not sane.
        mutate: Makes broken content of good.
    """

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], object]
    mutate: Callable[[bytes, random.Random], bytes]

    def check(self, file: Path) -> str | None:
        """Reads a file.

        Returns:
            None if it was accepted, or else the message with which it was refused.

        Raises:
            BadReading: If it was refused without its name, was not read in time, ran something, or if what was accepted
                is not sane.
        """
        try:
            with _guarded(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.read(file)
        except Exception as error:
            message = readable(error)
            if message is None:
                raise BadReading("".join(traceback.format_exception(error))[-3000:]) from error
            of_video = f"video {file.stem}" in message and str(file.parent) in message
            if file.name not in message and not of_video:
                raise BadReading(f"{file.name} is not named: {message}") from error
            return message
        return None


def mutation_seed(kind: str, seed: int, number: int) -> str:
    """The seed of one broken file."""
    return f"{kind} {seed} {number}"


@contextmanager
def _guarded() -> Iterator[None]:
    """Fails if the block takes too long or does what no reader may."""
    _install_audit()

    def late(*_: Any) -> None:
        raise BadReading(f"not read within {SECONDS} s")

    # What data sets log of every file that they read.
    MMLogger.get_current_instance().setLevel("ERROR")
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    _done.clear()
    _watching.append(True)
    try:
        yield
    finally:
        _watching.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if _done:
        raise BadReading(f"reading did {_done}")


_installed: list[bool] = []
_watching: list[bool] = []
_done: list[str] = []


def _install_audit() -> None:
    # An audit hook cannot be removed again.
    if not _installed:
        sys.addaudithook(_audit)
        _installed.append(True)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in FORBIDDEN:
        _done.append(f"{event} {arguments}")
