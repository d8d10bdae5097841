"""The tables of campaigns with people, beside those of runs: who was asked what, who said what, who holds what at the moment."""

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    UniqueConstraint,
)

from mcdal.schema import Number, Words, metadata


def _campaign(**options: bool) -> Column[str]:
    return Column("campaign_id", Words, ForeignKey("campaigns.campaign_id"), nullable=False, **options)  # type: ignore[arg-type]


campaigns = Table(
    "campaigns",
    metadata,
    Column("campaign_id", Words, primary_key=True),
    Column("config", JSON, nullable=False),
    Column("secret", Words, nullable=False),  # signs invitations and sessions
    Column("created_at", DateTime, nullable=False),
)

# Classes are added, never renumbered: a label is a number.
campaign_classes = Table(
    "campaign_classes",
    metadata,
    _campaign(primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("name", Words, nullable=False),
    Column("added_at", DateTime, nullable=False),
    UniqueConstraint("campaign_id", "name"),
)

# One row for each image that people are asked about. What the answers add up to is kept here as well, so that the next image is
# found without counting; it follows from `answers` alone.
questions = Table(
    "questions",
    metadata,
    _campaign(primary_key=True),
    Column("sample_id", Words, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("rank", Integer, nullable=False),  # 0 is asked first
    Column("arm", Words, nullable=False),  # start, strategy, control, easy, rare, audit or given
    Column("wanted", Integer, nullable=False),  # answers of different people
    Column("given", Integer, nullable=False),  # standing answers that count
    Column("verdict", Words),  # label, cannot_tell, withdrawn or ended; NULL while open
    Column("value", Integer),  # class number of a label
    Column("why", JSON, nullable=False),  # sentences
    Column("guess", Integer),  # the model's class
    Column("confidence", Float),
    Column("asked_at", DateTime, nullable=False),
    Column("closed_at", DateTime),
    Index("questions_open", "campaign_id", "closed_at", "round", "rank"),
    Index(
        "questions_by_arm", "campaign_id", "arm", "round", "closed_at", "value"
    ),  # to count without reading the wide rows
)

people = Table(
    "people",
    metadata,
    _campaign(primary_key=True),
    Column("person_id", Words, primary_key=True),
    Column("name", Words, nullable=False),
    Column("joined_at", DateTime, nullable=False),
    Column("seen_at", DateTime),  # when they last asked or answered
    Column("removed_at", DateTime),
    UniqueConstraint("campaign_id", "name"),
)

invitations = Table(
    "invitations",
    metadata,
    _campaign(primary_key=True),
    Column("invitation_id", Words, primary_key=True),
    Column("uses_left", Integer, nullable=False),
    Column("made_at", DateTime, nullable=False),
    Column("expires_at", DateTime, nullable=False),
)

# Append-only: taking an answer back, and giving another one, are rows of their own.
answers = Table(
    "answers",
    metadata,
    Column("answer_id", Number, primary_key=True),
    _campaign(),
    Column("sample_id", Words, nullable=False),
    Column("person_id", Words, nullable=False),
    Column("verdict", Words, nullable=False),  # label, cannot_tell, skip or undo
    Column("value", Integer),  # class number of a label
    Column("seconds", Float),  # that the person looked at it, as the page says
    Column("at", DateTime, nullable=False),
    Column("key", Words, nullable=False),  # made by whoever answers: saying it twice is harmless
    Column("takes_back", Words),  # of an undo: the key of the answer
    UniqueConstraint("campaign_id", "key"),
    Index("answers_by_sample", "campaign_id", "sample_id"),
)

# The answer of each person to each image that stands at the moment; it follows from `answers` alone.
standing = Table(
    "standing",
    metadata,
    _campaign(primary_key=True),
    Column("sample_id", Words, primary_key=True),
    Column("person_id", Words, primary_key=True),
    Column("answer_id", Number, nullable=False),
    Column("verdict", Words, nullable=False),
    Column("value", Integer),
    Column("key", Words, nullable=False),
    Index("standing_by_person", "campaign_id", "person_id"),
)

leases = Table(
    "leases",
    metadata,
    _campaign(primary_key=True),
    Column("sample_id", Words, primary_key=True),
    Column("person_id", Words, primary_key=True),
    Column("until", DateTime, nullable=False),
)

# What models say of the audit images: those of the rounds, and those that learned from the labels that random labeling gives.
trials = Table(
    "trials",
    metadata,
    _campaign(primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("arm", Words, primary_key=True),  # picked: all labels so far; random: those of a random sample of the pool
    Column(
        "repeat", Integer, primary_key=True
    ),  # the same labels, other initial weights; 0 of "picked" is the round's model
    Column("labels", Integer, nullable=False),  # that it learned from
    Column("predicted", JSON, nullable=False),  # class number by sample id; empty where there could be no such model
    Column("made_at", DateTime, nullable=False),
)

# Near-duplicates that take over a label, where a campaign wants that.
copies = Table(
    "copies",
    metadata,
    _campaign(primary_key=True),
    Column("sample_id", Words, primary_key=True),
    Column("of", Words, nullable=False),  # the image that people are asked about
    Column("likeness", Float, nullable=False),  # cosine
    Column("found_at", DateTime, nullable=False),
)

# Shards that people were asked about images of, as they were then: whatever lies there under another stamp is not what they saw.
# Not in the cache, which may be removed.
asked_shards = Table(
    "asked_shards",
    metadata,
    _campaign(primary_key=True),
    Column("shard", Words, primary_key=True),
    Column("stamp", Words, nullable=False),
    Column("gone_at", DateTime),  # when somebody said that it has gone; it may come back as it was
)

TABLES = (campaigns, campaign_classes, questions, people, invitations, answers, standing, leases)
