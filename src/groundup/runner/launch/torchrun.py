"""torchrun without its report of failures, which the stage gives: python -m groundup.runner.launch.torchrun ..."""

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.run import main

from groundup.runner.launch.rank import note, own_work_dir

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ChildFailedError, SignalException):
        sys.exit(1)
    except RendezvousError as error:
        if work := own_work_dir():
            note(work, None, f"the machines did not find each other within `timeout` of launch.yaml: {error!r:.200}")
        sys.exit(1)
