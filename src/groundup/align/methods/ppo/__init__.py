"""Proximal policy optimization (Schulman et al. 2017, arXiv:1707.06347) of a chat model against a reward model.

objective.py   the mathematics: rewards, advantages, losses; pure functions of tensors
module.py      one iteration: rollout, advantages, minibatch epochs (LightningModule)
schedule.py    what happens between iterations: curves, validation, rollback, checkpoints
train.py       assembles models, schedule and trainer
"""
