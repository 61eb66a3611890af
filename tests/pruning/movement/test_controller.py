"""The feedback on the penalty, on a simulated crowd of scores that knows no model."""

from __future__ import annotations

import math
import random

import pytest

from pruning.movement.controller import PenaltyController

UPDATES, MOMENTUM, NOISE = 155, 0.9, 0.05
END = math.log(0.1 / 0.9)


def travelled(travel, balance=15.0):
    """The needed cut in logits over a ramp, and its distance from the way it should take.

    Scores move with momentum and at most ``travel`` logits over the whole ramp, down where lambda is above ``balance``
    and up where it is below, as AdamW moves them between penalty and task.
    """
    generator = random.Random(0)
    controller = PenaltyController(0.5, 0.1, math.log(10.0))
    logit, velocity, away = 0.0, 0.0, []
    for update in range(UPDATES):
        seen = 1 / (1 + math.exp(-(logit + generator.gauss(0, NOISE))))
        strength = controller.update(seen, update / UPDATES)
        velocity = MOMENTUM * velocity - (1 - MOMENTUM) * math.tanh(math.log(strength / balance) / 1.5)
        logit += velocity * travel / UPDATES
        away.append(abs(logit - END * update / UPDATES))
    return logit, max(away)


@pytest.mark.parametrize("travel", [4.4, 10, 50])
def test_the_needed_cut_takes_the_way_of_the_schedule_without_swinging(travel):
    end, away = travelled(travel)
    assert end == pytest.approx(END, abs=0.25)
    assert away < 0.3
