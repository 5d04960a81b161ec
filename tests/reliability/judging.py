"""What every run has to come to, whatever happened."""

from __future__ import annotations

from tests.reliability.harness import Tally

SLACK = 1.5  # seconds that a slow machine may take beyond two deadlines: opening and closing
BACK = 4.0  # seconds in which a server answers again by itself


def is_as_promised(tally: Tally, timeout: float) -> None:
    """Assert what is promised for every fault."""
    assert tally.wrong == []
    assert tally.other == 0, "a status besides 200 and 503"
    assert tally.foreign == 0, "somebody saw another's session"
    assert tally.lost_by_us == 0, "an acknowledged update that the server had kept is missing"
    assert tally.twice == 0, "an update appears twice"
    assert tally.revived_by_us == 0, "a session that was signed out is back"
    assert tally.longest < 2 * timeout + SLACK, "longer than its two deadlines"
    assert max(tally.recovery.values()) < BACK, "it had to wait for its sessions"
