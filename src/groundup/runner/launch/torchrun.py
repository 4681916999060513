"""torchrun without its report of failures, which the stage gives: python -m groundup.runner.launch.torchrun ..."""

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousTimeoutError
from torch.distributed.run import main

from groundup.runner.launch.jobs import ASKED_TO_END
from groundup.runner.launch.rank import note, note_failed, own_work_dir

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RendezvousTimeoutError:
        if work := own_work_dir():
            note(work, None, "the machines did not find each other within `timeout` of launch.yaml")
        sys.exit(1)
    except SignalException:
        sys.exit(ASKED_TO_END)
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        if first.exitcode == ASKED_TO_END:
            sys.exit(ASKED_TO_END)
        note_failed()
        sys.exit(1)
    except RendezvousError:  # another machine's torchrun has ended
        sys.exit(1)
