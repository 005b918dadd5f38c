# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What `mim test mesm_plugin CONFIG` runs: `mesm test`."""

import sys

from mesm_plugin.cli.main import run_script

if __name__ == "__main__":
    run_script(["test", *sys.argv[1:]])
