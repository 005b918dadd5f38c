# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What `mim train mesm_plugin CONFIG` runs: `mesm train`."""

import sys

from mesm_plugin.cli.main import run_script

if __name__ == "__main__":
    run_script(["train", *sys.argv[1:]])
