"""Which of torch's attention kernels a process may use."""

import torch


def avoid_cudnn_attention() -> None:
    """For every process that runs a model; without a GPU it has no effect.

    On Hopper and Blackwell torch prefers cuDNN's kernel in bf16. It gives NaN gradients for some lengths with a mask
    (pytorch#196678), wrong results on Blackwell (pytorch#193893), and plans anew for every length of batch.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
