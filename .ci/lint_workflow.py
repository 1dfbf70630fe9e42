"""`snakemake --lint` without the one rule that does not fit here.

Left out: an environment per rule. All rules call one package in one environment, which `make setup` or the image of the whole
workflow provides; an environment per rule would be the same one every time.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

LEFT_OUT = "Specify a conda environment or container for each rule."


def main() -> int:
    command = [sys.executable, "-m", "snakemake", "--lint", "--quiet", "host"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    if done.returncode and "Lints for" not in text:
        print(text, file=sys.stderr)
        return done.returncode
    found = list(findings(text.splitlines()))
    print("\n".join(found) or "snakemake --lint: nothing found", file=sys.stderr if found else sys.stdout)
    return 1 if found else 0


def findings(lines: list[str]) -> Iterator[str]:
    """Place and title of each lint that counts."""
    place = ""
    for line in lines:
        if line.startswith("Lints for"):
            place = line.removeprefix("Lints for ").rstrip(":")
        elif line.startswith("    * ") and LEFT_OUT not in line:
            yield f"{place}: {line.strip(' *:')}"


if __name__ == "__main__":
    sys.exit(main())
