"""The disk that a block's folders lie on: how much of it must stay free, and who has taken it.

Entry point: `Disk`. What a worker writes goes to its scratch and its cache folder alone, so that a short disk has a
culprit.
"""

import os
from pathlib import Path

# What stays free for journals and for the other participants: a part of what is free at the start, at most so much.
SHARE, MOST_BYTES, MOST_FILES = 4, 1 << 30, 10_000


class Disk:
    """Watches free bytes and files (inodes)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        free_bytes, free_files = self._free()
        self._bytes, self._files = min(MOST_BYTES, free_bytes // SHARE), min(MOST_FILES, free_files // SHARE)

    def short(self) -> bool:
        """Whether less is free than must stay free."""
        free_bytes, free_files = self._free()
        return free_bytes < self._bytes or free_files < self._files

    def taken_by(self, *folders: Path) -> bool:
        """Whether the disk is short, and what lies in these folders is a good part of what is missing."""
        if not self.short():
            return False
        held_bytes = held_files = 0
        for folder in folders:
            for place, below, files in os.walk(folder):
                held_files += len(below) + len(files)
                for name in files:
                    try:
                        held_bytes += os.lstat(f"{place}/{name}").st_blocks * 512
                    except OSError:
                        continue
                if held_bytes >= self._bytes // 2 or held_files >= max(1, self._files // 2):
                    return True
        return False

    def _free(self) -> tuple[int, int]:
        found = os.statvfs(self._folder)
        # A file system without a number of files says 0 of 0.
        return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else MOST_FILES * SHARE
