"""Run as a process of its own: answers questions about an index in a folder that it may read but not write.

Expects as globals: ``WARM`` (an index to use while it may do all: what is imported on the way is there then), ``INDEX``
and ``PIPE``, over which each message is answered by what ``facts`` finds, or by a text: what is in its way.
"""

from __future__ import annotations

import os

import numpy as np

from landseer.search import open_index
from landseer.types import Descriptors

NOBODY = 65534


def facts(index):
    query = Descriptors(ids=("q",), rows_ND=np.array([[1, 0]], np.float32), normalised=False)
    return {
        "chosen": list(index.ids_where("number >= 1")),
        "answers": index.search(query, k=100).answers(0),
        "problems": [str(problem) for problem in index.verify()],
    }


def answer(warm, path, pipe):
    with open_index(warm) as index:
        facts(index)
    if os.geteuid() == 0:  # permissions mean nothing to root
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    index = None
    while pipe.recv():
        try:
            index = index or open_index(path)
            pipe.send(facts(index))
        except ValueError as error:
            pipe.send(str(error))


if __name__ == "__nobody__":
    answer(WARM, INDEX, PIPE)  # noqa: F821
