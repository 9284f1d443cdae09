"""A living index that answers: the one entry for a server, or for a program that asks photo after photo."""

from landseer.pipeline.online.answering import Answer, Query, Reply
from landseer.pipeline.online.attention import Box
from landseer.pipeline.online.online import Limits, Online
from landseer.pipeline.online.points import InCommon
from landseer.pipeline.online.refusals import Busy, Refused, Unknown
from landseer.pipeline.online.run_tags import FAILED, RULES, JudgedAnswer
from landseer.pipeline.online.runs import Confusion, RunExplorer, RunFacts, RunQuery
from landseer.pipeline.online.seeing import Seen
from landseer.pipeline.online.uploads import Added
from landseer.pipeline.online.votes import Verdict, Vote

__all__ = [
    "FAILED",
    "RULES",
    "Added",
    "Answer",
    "Box",
    "Busy",
    "Confusion",
    "InCommon",
    "JudgedAnswer",
    "Limits",
    "Online",
    "Query",
    "Refused",
    "Reply",
    "RunExplorer",
    "RunFacts",
    "RunQuery",
    "Seen",
    "Unknown",
    "Verdict",
    "Vote",
]
