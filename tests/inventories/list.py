"""Has ansible-inventory list many inventories in one process: each start takes most of a second.

Reads a path a line, and writes what `ansible-inventory --list -i PATH` prints to PATH.json; if it
fails, {"error": WORDS}.
"""

import json
import os
import sys

os.environ.update(
    ANSIBLE_LOCALHOST_WARNING="False", ANSIBLE_INVENTORY_UNPARSED_FAILED="True"
)

from ansible.cli.inventory import InventoryCLI  # noqa: E402
from ansible.errors import AnsibleError  # noqa: E402
from ansible.utils.context_objects import GlobalCLIArgs  # noqa: E402

for line in sys.stdin:
    path = line.rstrip("\n")
    # Arguments are kept for the whole process.
    GlobalCLIArgs._Singleton__instance = None
    words = ["ansible-inventory", "--list", "-i", path, "--output", path + ".json"]
    try:
        InventoryCLI(words).run()
    except SystemExit as end:
        if end.code != 0:
            raise
    except AnsibleError as error:
        with open(path + ".json", "w") as out:
            json.dump({"error": str(error)}, out)
