"""From photos to descriptors: resumable, multi-scale, memory bounded whatever the number of photos is."""

from landseer.extraction.ensemble import extract_ensemble
from landseer.extraction.extract import extract
from landseer.extraction.plan import Plan, plan_of

__all__ = ["Plan", "extract", "extract_ensemble", "plan_of"]
