"""Frames that arrived together, and their answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastcell.live.protocol import AnswerStatus, Frames, empty_answers


class CellBlock:
    """Frames that arrived together, and their answers.

    Args:
        frames: N frames.
        num_classes: K.
        arrived: time of their arrival (`time.perf_counter`) [s].
        done: function that a worker calls when the last answer is complete.

    Attributes:
        answers: (N,) of `fastcell.live.protocol.answer_dtype`; complete once `left` is 0.
        unlike_off: (N, 2) int16, see `fastcell.inference.unlike.reasons.UnlikeScores`.
        left: number of cells without an answer.
        taken: number of cells that workers have taken.
        abandoned: True if no client waits for the answers.
    """

    __slots__ = ("abandoned", "answers", "arrived", "done", "frames", "left", "taken", "unlike_off")

    def __init__(self, frames: Frames, num_classes: int, arrived: float, done: Callable[[CellBlock], None]) -> None:
        self.frames, self.arrived, self.done = frames, arrived, done
        self.answers = empty_answers(frames, num_classes, AnswerStatus.DROPPED)
        self.unlike_off = np.full((len(frames), 2), -1, np.int16)
        self.left, self.taken, self.abandoned = len(frames), 0, False

    def drop(self) -> None:
        """Answer all cells as dropped. Call it instead of `MicroBatches.submit`."""
        self.left = 0
        self.frames = Frames([], *self.frames[1:])  # many may wait for the answers before theirs

    @property
    def dropped(self) -> bool:
        """Whether the cells were dropped."""
        return not self.left and not self.taken
