"""The stages of dvc.yaml; importing this package puts this checkout's src first on sys.path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
