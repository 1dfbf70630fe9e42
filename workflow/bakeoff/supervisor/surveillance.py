"""The device of a block while it is held: locked for this block alone, its clocks set, its state looked at.

Entry point: `Surveillance`. `take` waits for the lock; `disturbance` says why a cell's samples cannot be trusted.
"""

import contextlib
import time

from bakeoff import locks
from bakeoff.core.device import gpu_state
from bakeoff.core.device.gpu_state import Monitor
from bakeoff.processes.children import end_holders
from bakeoff.schema.outcomes import Reason
from bakeoff.supervisor.attempt import Attempt
from bakeoff.supervisor.settings import BlockSettings


class Surveillance:
    """Holds and watches the block's device, if it has one."""

    def __init__(self, settings: BlockSettings, monitor: Monitor) -> None:
        self._settings, self._monitor = settings, monitor
        self._undone_at_end = contextlib.ExitStack()
        self._begun: float | None = None
        self.held_s = 0.0  # seconds for which the device was held
        self.refused: str | None = None  # why the clock cannot be locked

    @property
    def taken(self) -> bool:
        return self._begun is not None

    def take(self) -> None:
        """Take the device for this block."""
        settings, held = self._settings, self._undone_at_end
        if settings.gpu:
            held.enter_context(locks.hold_gpu(settings.gpu, f"GPU {settings.gpu}", self._waiting))
        self._begun = time.monotonic()
        self._monitor.start()
        self.refused = held.enter_context(gpu_state.locked_clocks(self._monitor, settings.lock_clocks_mhz))

    def _waiting(self, text: str) -> None:
        """Somebody has the lock. A worker of this block may not: it can open the file for reading, which is enough."""
        assert self._settings.gpu
        ended = end_holders(locks.gpu_lock(self._settings.gpu))
        self._settings.tell(f"{text}; ended for holding its lock: {', '.join(ended)}" if ended else text)

    def disturbance(self, attempt: Attempt, own: set[int], blamed: bool) -> tuple[Reason, str] | None:
        """Look at the device's state since the attempt began; says what disturbed a timed cell, or None.

        What is kept of it is of the timed calls after the first batch, where they took long enough to be seen.

        own: ids of the block's processes; blamed: the solution itself failed on the GPU.
        """
        looks = self._monitor.since(attempt.begun)
        first, last = attempt.batch_ends or (0.0, 0.0)
        timed = [look for look in looks if first <= look.moment <= last]
        attempt.gpu_state = gpu_state.summary(timed or looks, of_calls=bool(timed))
        if attempt.cell.kind != "measure":
            return None
        return gpu_state.disturbance(looks, own, self._monitor.baseline(), blamed)

    def close(self) -> None:
        self._monitor.stop()
        self._undone_at_end.close()
        if self._begun is not None:
            self.held_s = time.monotonic() - self._begun
