"""What an examination finds, one line each."""

from __future__ import annotations

import dataclasses

FINE, MISSING, UNKNOWN, NOTE = "fine", "missing", "unknown", "note"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        subject: what was looked at, such as "volume claim alexnet".
        state: FINE; MISSING, where a run would fail or hang; UNKNOWN, where it could not be seen; NOTE, to think of.
        text: in whole sentences, on one line, without what a terminal would obey.
        mend: commands, one a line, or what else to do; "" where there is nothing to mend.
    """

    subject: str
    state: str
    text: str
    mend: str = ""
