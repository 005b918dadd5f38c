# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What `mim train mesm_plugin CONFIG` runs: `mesm train`."""

import sys

from mesm_plugin.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
