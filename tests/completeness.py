"""Fail if the types of too many public names of apex are incomplete, as pyright counts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYRIGHT = ROOT / "tests" / "interop" / "node_modules" / ".bin" / "pyright"
AT_LEAST = 0.95
"""The share of public names whose types must be complete."""


def main() -> None:
    """Print the share. With ``--all``, or if the share is too low, print each incomplete name with the reasons."""
    # pyright finds neither the checkout nor, beside it, the libraries by the interpreter alone.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])}
    command = (PYRIGHT, "--verifytypes", "apex", "--ignoreexternal", "--outputjson")
    printed = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True).stdout
    report = json.loads(printed)["typeCompleteness"]
    share = report["completenessScore"]
    print(f"The types of {share:.1%} of the public names are complete.")
    if share < AT_LEAST or "--all" in sys.argv:
        for symbol in report["symbols"]:
            if symbol["isExported"] and (symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"]):
                reasons = [line.strip() for found in symbol["diagnostics"] for line in found["message"].splitlines()]
                print(f"{symbol['name']}: {'; '.join(reasons)}")
    if share < AT_LEAST:
        sys.exit(f"At least {AT_LEAST:.1%} must be complete.")


if __name__ == "__main__":
    main()
