"""First contact with a chip: from one tile to whole layers, each step against float64 and under a watchdog."""
