"""Export: results in the forms that others ask for."""

from landseer.export.submission import (
    read_recognition_submission,
    read_retrieval_submission,
    sample_queries,
    write_recognition_submission,
    write_retrieval_submission,
)

__all__ = [
    "read_recognition_submission",
    "read_retrieval_submission",
    "sample_queries",
    "write_recognition_submission",
    "write_retrieval_submission",
]
