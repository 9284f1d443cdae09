"""From photos to descriptors: resumable, multi-scale, memory bounded whatever the number of photos is."""

from landseer.extraction.ensemble import extract_ensemble
from landseer.extraction.extract import extract
from landseer.extraction.plan import Plan, plan_of
from landseer.extraction.shards import Shard, merge_shards

__all__ = ["Plan", "Shard", "extract", "extract_ensemble", "merge_shards", "plan_of"]
