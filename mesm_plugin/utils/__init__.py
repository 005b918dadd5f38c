# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What every layer may use."""

from mesm_plugin.utils.atomic_file import atomic_file, remove_unfinished
from mesm_plugin.utils.json_file import json_text, read_json, write_json
from mesm_plugin.utils.listing import listed
from mesm_plugin.utils.process_end import end_process

__all__ = ["atomic_file", "end_process", "json_text", "listed", "read_json", "remove_unfinished", "write_json"]
