"""What harms a picture where robustness is judged (see components.corruptions). Imports nothing heavy."""

from __future__ import annotations

import typing

Harm = typing.Literal["noise", "blur", "brightness", "contrast", "jpeg"]
KINDS: tuple[Harm, ...] = typing.get_args(Harm)
