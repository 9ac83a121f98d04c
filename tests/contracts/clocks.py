"""A clock for what must not go by the time of day."""

from dataclasses import dataclass

from sockade.clock import SteppedClock


@dataclass(slots=True)
class SetClock(SteppedClock):
    """One whose time of day is set to another, as an operator or the network does it."""

    set_by: float = 0.0

    def wall(self) -> float:
        return self.now + self.set_by
