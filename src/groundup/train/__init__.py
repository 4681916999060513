"""Training: pretrain, sft, reward, ppo, and what they share."""
