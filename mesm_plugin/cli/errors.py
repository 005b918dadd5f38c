# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Which errors are the user's input, and how to tell them in one message."""

import os
import re
from pathlib import Path

import mmengine

import mesm_plugin
from mesm_plugin import kernels, registry

# In a checkout kernels/ and registry/ lie outside mesm_plugin/.
PACKAGES = tuple(
    str(Path(str(package.__file__)).parent) + os.sep for package in (mesm_plugin, kernels, registry, mmengine)
)


def readable(error: Exception) -> str | None:
    """The message of an error that bad input caused; None for others, whose traceback is wanted.

    Bad input is what the file system reports, and a wrong value, key or type that this package or MMEngine found
    themselves, be it in a worker of a data loader.
    """
    from mesm_plugin.engine.build_errors import explain_build_error

    explained = explain_build_error(error)
    if explained is not None:
        return explained
    is_input = isinstance(error, (OSError, ValueError, KeyError, TypeError, ImportError))
    if is_input and "in DataLoader worker process" in str(error):
        return _message_in_worker(str(error))
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) or (is_input and _raised_here(error)):
        # A KeyError prints its message quoted.
        return str(error.args[0]) if type(error) is KeyError and error.args else str(error)
    return None


def _message_in_worker(text: str) -> str | None:
    """The message in the traceback that a data loader raises for its worker, if one of the packages raised it."""
    last = re.search(r'.*File "([^"]+)", line \d+.*\n[\w.]+: (.*)', text, re.DOTALL)
    return last[2].strip() if last and last[1].startswith(PACKAGES) else None


def _raised_here(error: Exception) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith(PACKAGES)
