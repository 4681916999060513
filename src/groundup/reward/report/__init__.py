"""Figures, calibration, baselines and plots of the reward model."""
