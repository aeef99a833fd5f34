"""How long work tells how far it is, and how it is stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Called between two steps of long work. It may raise: that stops the work, which leaves nothing behind.

    `phase`: what is being done, in words. `step` of `steps`: how far that is; 0 of 0 where nobody knows. `measured`: what was
    measured just now, with a `name`: an epoch's loss, say.
    """

    def __call__(self, phase: str, /, step: int = 0, steps: int = 0, measured: Mapping[str, object] | None = None) -> None: ...


def silent(phase: str, /, step: int = 0, steps: int = 0, measured: Mapping[str, object] | None = None) -> None:
    """Tell nobody."""
