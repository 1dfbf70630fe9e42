"""The pinned images: their lock file, the checks before and inside a container, and bills of materials."""
