"""Proximal policy optimization (Schulman et al. 2017, arXiv:1707.06347) of a chat model against a reward model.

objective.py   the mathematics: rewards, advantages, losses; pure functions of tensors
controller.py  the adaptive KL coefficient
models.py      policy with its frozen reference, value model
tokens.py      replies as tensors, and what the models say about each token
rollout.py     sample, score, compare with the reference
module.py      one iteration: rollout, advantages, minibatch epochs (LightningModule)
schedule.py    what happens between iterations: validation, keeping the best, samples, checkpoints
align.py       the whole stage: train, keep, measure
"""
