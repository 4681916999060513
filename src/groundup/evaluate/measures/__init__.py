"""The measures of the models, one file each, in the order of the report."""

from groundup.evaluate.measures.best_of_n import BestOfN
from groundup.evaluate.measures.contamination import Contamination
from groundup.evaluate.measures.decoding import DecodingMethods
from groundup.evaluate.measures.gates import Gates
from groundup.evaluate.measures.gold_judge import GoldJudge
from groundup.evaluate.measures.measure import Measure
from groundup.evaluate.measures.overoptimization import Overoptimization
from groundup.evaluate.measures.ratings import Ratings
from groundup.evaluate.measures.rewards import Rewards
from groundup.evaluate.measures.samples import Samples
from groundup.evaluate.measures.tasks import Tasks
from groundup.evaluate.measures.values import ValueProbes

# A measure sees the figures of the measures before it; Gates sees all.
MEASURES: list[type[Measure]] = [
    GoldJudge,
    Rewards,
    BestOfN,
    Overoptimization,
    Contamination,
    Tasks,
    ValueProbes,
    DecodingMethods,
    Ratings,
    Gates,
    Samples,
]
