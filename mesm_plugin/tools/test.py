# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What `mim test mesm_plugin CONFIG` runs: `mesm test`."""

import sys

from mesm_plugin.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["test", *sys.argv[1:]]))
