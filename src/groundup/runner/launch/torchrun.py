"""torchrun without its report of failures, which the stage gives: python -m groundup.runner.launch.torchrun ..."""

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ChildFailedError, SignalException):
        sys.exit(1)
