"""Photos and labels of any layout -> a Collection; countries and continents."""

from landseer.datasets.borders import countries_at
from landseer.datasets.folder import import_folder
from landseer.datasets.geography import CONTINENTS, continent_of, countries, parse_country
from landseer.datasets.gldv1 import import_gldv1
from landseer.datasets.gldv2 import import_gldv2
from landseer.datasets.revisited import import_revisited
from landseer.datasets.strangers import with_strangers
from landseer.datasets.summary import Problem, Progress, Summary
from landseer.datasets.table import import_table

__all__ = [
    "CONTINENTS",
    "Problem",
    "Progress",
    "Summary",
    "continent_of",
    "countries",
    "countries_at",
    "import_folder",
    "import_gldv1",
    "import_gldv2",
    "import_revisited",
    "import_table",
    "parse_country",
    "with_strangers",
]
