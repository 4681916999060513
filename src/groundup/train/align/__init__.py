"""The methods of alignment that TRL trains; they share inputs, outputs and names of metrics with PPO.

group.py    RLOO and GRPO: replies to one prompt are compared with each other while the policy learns
pairs.py    DPO: the best and the worst of SFT's replies to a prompt, sampled once
updates.py  what happens between the updates of any TRL trainer
"""
