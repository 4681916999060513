"""The stages that train in several processes."""

# What brings the processes together: Lightning's strategy, or the class of the model that the trainer calls.
STAGES = {
    "pretrain": "DDPStrategy",
    "pretrain-fsdp2": "ModelParallelStrategy",
    "sft": "DistributedDataParallel",
    "reward": "DistributedDataParallel",
    "align": "SingleDeviceStrategy",  # PPO adds up the gradients itself
    "align-dpo": "DistributedDataParallel",
}
