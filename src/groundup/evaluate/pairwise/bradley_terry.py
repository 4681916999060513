"""Ratings of players from the outcomes of their games (Bradley and Terry 1952)."""

import numpy as np

from groundup.core.judging.statistics import Floats

ELO = 400 / np.log(10)  # 400 points are odds of ten to one
# Weight of the squared strengths: keeps a player that always wins finite, and hardly affects others.
PENALTY = 0.01
MAX_STEPS, TOLERANCE, LARGEST_STEP = 200, 1e-9, 2.0


def bradley_terry(wins: Floats) -> Floats:
    """wins [S, P, P]: games that row won against column, a tie half to each -> strengths [S, P] of mean zero.

    P(i beats j) = sigmoid(strength i - strength j). Newton's method on the penalized log-likelihood, which is concave.
    """
    num_players = wins.shape[1]
    games = wins + wins.transpose(0, 2, 1)
    strengths = np.zeros(wins.shape[:2])
    diagonal = np.arange(num_players)
    for _ in range(MAX_STEPS):
        expected = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))  # that row beats column
        gradient = (wins - games * expected).sum(2) - PENALTY * strengths
        curvature = -games * expected * (1 - expected)
        curvature[:, diagonal, diagonal] = PENALTY - curvature.sum(2)  # no player plays against itself
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        strengths = strengths + np.clip(step, -LARGEST_STEP, LARGEST_STEP)
        if np.abs(step).max() < TOLERANCE:
            break
    return np.asarray(strengths)
