"""The methods of alignment: PPO, RLOO and GRPO, DPO."""
