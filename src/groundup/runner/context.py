"""What a stage's body works with: its declared params, deps and outs, the device, its curve and its checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from groundup.runner.base import LOCK, Base, checked_base, read_lock
from groundup.runner.checkpoints import Checkpoints
from groundup.runner.environment import main_root
from groundup.runner.fingerprint import Fingerprint
from groundup.runner.params.selection import DeclaredParams
from groundup.runner.pipeline import PipelineError, StageSpec
from groundup.runner.tracking.spool import Spool
from groundup.runner.workdir import EXPORT, SCRATCH


@dataclass(frozen=True)
class StageContext:
    """Picklable, so that a body can run in a process other than the runner's; that process must listen for signals."""

    root: Path
    spec: StageSpec
    params: DeclaredParams
    fingerprint: Fingerprint
    folder: Path  # the work dir of these inputs
    checkpoints: Checkpoints
    strategy: str = ""  # by which several processes train; empty for one
    rollouts: Sequence[str] = ()  # URLs of servers that sample replies
    timeout: float = 0.0  # seconds that it waits for one of them

    @property
    def device(self) -> str:
        return self.fingerprint.device

    @property
    def work(self) -> Path:
        """Finished sub-steps and scratch files, which the next run with the same inputs finds again."""
        return self.folder / SCRATCH

    @property
    def progress(self) -> int:
        """The step that the next run would continue after; where there is none, the number of finished sub-steps."""
        return self.checkpoints.last_step or len(list(self.work.glob("**/steps/*.json")))

    @property
    def kept(self) -> Path:
        """Files that every run of this stage may reuse; `groundup clean` keeps them."""
        return self.folder.parent

    @property
    def export(self) -> Path:
        return self.folder / EXPORT

    def dep(self, path: str) -> Path:
        if path not in self.spec.inputs:
            raise PipelineError(f"{self.spec.name} reads {path}: declare it under deps in dvc.yaml")
        return self.root / path

    def base(self) -> Path | None:
        """The folder of the open model to start from, checked against base.lock; None: from scratch."""
        self.dep(LOCK)
        return checked_base(self.root, self.params["model.base"])

    def locked_base(self) -> Base | None:
        """What base.lock says of the open model that training starts from, whose folder is not needed."""
        self.dep(LOCK)
        return read_lock(self.root)

    def pinned(self, path: str) -> Path:
        """A file or folder of the user's checkout that DVC does not track; params pin its content by a digest."""
        return main_root(self.root) / path

    def out(self, path: str) -> Path:
        """A staging path, published as `path` once the stage has succeeded."""
        if path not in self.spec.outs:
            raise PipelineError(f"{self.spec.name} writes {path}: declare it under outs in dvc.yaml")
        staged = self.export / path
        staged.parent.mkdir(parents=True, exist_ok=True)
        return staged

    def log(self, step: int, **values: float) -> None:
        """Log a point of the curves. A step logged again after a resume counts once; the first process logs."""
        if not self.checkpoints.processes.is_first:
            return
        Spool(self.folder).write("point", step=step, values=values)
