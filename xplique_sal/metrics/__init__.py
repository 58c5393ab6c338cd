"""Which map can be believed: metrics of maps, and tables that compare explainers."""

from xplique_sal.metrics.average_drop import AverageDrop
from xplique_sal.metrics.average_gain import AverageGain
from xplique_sal.metrics.average_increase import AverageIncrease
from xplique_sal.metrics.average_stability import AverageStability
from xplique_sal.metrics.compare import compare
from xplique_sal.metrics.comparison import Comparison, Cost, Estimate, Row
from xplique_sal.metrics.complexity import Complexity
from xplique_sal.metrics.deletion import Deletion
from xplique_sal.metrics.insertion import Insertion
from xplique_sal.metrics.localization import Localization
from xplique_sal.metrics.model_randomization import ModelRandomization
from xplique_sal.metrics.mu_fidelity import MuFidelity
from xplique_sal.metrics.result import SampleValues
from xplique_sal.metrics.sparseness import Sparseness

__all__ = [
    "AverageDrop",
    "AverageGain",
    "AverageIncrease",
    "AverageStability",
    "Comparison",
    "Complexity",
    "Cost",
    "Deletion",
    "Estimate",
    "Insertion",
    "Localization",
    "ModelRandomization",
    "MuFidelity",
    "Row",
    "SampleValues",
    "Sparseness",
    "compare",
]
