"""`snakemake --lint`, with its findings in one line each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator


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
    """Place and title of each lint."""
    place = ""
    for line in lines:
        if line.startswith("Lints for"):
            place = line.removeprefix("Lints for ").rstrip(":")
        elif line.startswith("    * "):
            yield f"{place}: {line.strip(' *:')}"


if __name__ == "__main__":
    sys.exit(main())
