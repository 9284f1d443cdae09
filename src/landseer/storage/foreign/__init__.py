"""What other tools wrote, read without running anything of it: descriptors, rankings, ids, judgements."""

from landseer.storage.foreign.descriptors import read_descriptors
from landseer.storage.foreign.ids import read_ids
from landseer.storage.foreign.pickles import load_plain_pickle
from landseer.storage.foreign.rankings import fingerprint_of_source, needs_ids, read_ranking, write_ranks
from landseer.storage.foreign.submissions import (
    is_recognition,
    read_recognition,
    read_recognition_submission,
    read_retrieval_submission,
)
from landseer.storage.foreign.trec import read_qrels, write_trec_run

__all__ = [
    "fingerprint_of_source",
    "is_recognition",
    "load_plain_pickle",
    "needs_ids",
    "read_descriptors",
    "read_ids",
    "read_qrels",
    "read_ranking",
    "read_recognition",
    "read_recognition_submission",
    "read_retrieval_submission",
    "write_ranks",
    "write_trec_run",
]
