"""The tables of the store, one schema for the embedded SQLite and for PostgreSQL."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# Ids have one order everywhere, by code points: that of a server's language would pick other images of equal score. Times are
# in UTC and have no zone.
Words = Text().with_variant(Text(collation="C"), "postgresql")
Number = Integer().with_variant(BigInteger(), "postgresql")  # of rows that grow without end


def _run_id(**options: bool) -> Column[str]:
    return Column("run_id", Words, ForeignKey("runs.run_id"), nullable=False, **options)  # type: ignore[arg-type]


schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

runs = Table(
    "runs",
    metadata,
    Column("run_id", Words, primary_key=True),
    Column("recipe", Words, nullable=False),
    Column("scale", Words, nullable=False),
    Column("strategy", Words, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("overrides", JSON, nullable=False),  # {field: value} as given by --set
    Column("config", JSON, nullable=False),
    Column("classes", JSON, nullable=False),
    Column("pool_size", Integer, nullable=False),
    Column("data_fingerprint", Words, nullable=False),
    Column("notes", JSON, nullable=False),  # what a reader of the results should know, in words
    Column("created_at", DateTime, nullable=False),
)

# One row for each process that worked on a run: a run that was killed twice has three.
sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Integer, primary_key=True),
    _run_id(),
    Column("started_at", DateTime, nullable=False),
    Column("ended_at", DateTime),
    Column("outcome", Words),  # done, waiting, stopped, or the error in words; NULL while at work or after a kill
    Column("environment", JSON, nullable=False),  # commit, versions, device, precision, threads
)
sessions_by_run = Index("sessions_by_run", sessions.c.run_id, sessions.c.session_id)

rounds = Table(
    "rounds",
    metadata,
    _run_id(primary_key=True),
    Column("round", Integer, primary_key=True),  # 0 is the start set
    Column("seed", BigInteger, nullable=False),  # the state that every random draw of the round follows from
    Column("labeled", Integer, nullable=False),  # labeled samples with this round's included
    Column("started_at", DateTime, nullable=False),
    Column("finished_at", DateTime),  # NULL until the round's model is trained, tested and kept
    Column("seconds", JSON, nullable=False),  # {phase: seconds} of the process that finished the phase
    Column("searched", JSON),  # how the batch was searched for where not among all rows at once: `Picks.searched`
)

queries = Table(
    "queries",
    metadata,
    _run_id(primary_key=True),
    Column("round", Integer, nullable=False),
    Column("sample_id", Words, primary_key=True),  # a sample is asked for once a run
    Column("score", Float),  # NULL in the random start set
    Column("rank", Integer, nullable=False),  # 0 is the most wanted
    Column(
        "arm", Words
    ),  # "control": drawn at random beside the strategy's picks; NULL is the strategy's, or the start set
    Index("queries_by_round", "run_id", "round"),
)

# Append-only: a correction is a new row, and the newest row of a sample is its label. No index finds the rows of a sample: who
# wants some of a run's labels reads what is new of them, and each index over samples is as much to write as the labels.
labels = Table(
    "labels",
    metadata,
    Column("label_id", Number, primary_key=True),
    _run_id(),
    Column("sample_id", Words, nullable=False),
    Column("value", Integer, nullable=False),  # class index, or mask_id
    Column("by", Words, nullable=False),  # who said so
    Column("at", DateTime, nullable=False),
    Column("key", Words, nullable=False),  # makes saying the same thing twice harmless
    UniqueConstraint("run_id", "key"),
)
labels_by_run = Index("labels_by_run", labels.c.run_id, labels.c.label_id)  # to read those that are new

# What a label says where it is a mask; the mask itself is a file that the digest names.
masks = Table(
    "masks",
    metadata,
    Column("mask_id", Integer, primary_key=True),
    Column("digest", Words, nullable=False, unique=True),
)

metrics = Table(
    "metrics",
    metadata,
    _run_id(primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("name", Words, primary_key=True),
    Column("value", Float, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    _run_id(primary_key=True),
    Column("sample_id", Words, primary_key=True),
    Column("reason", Words, nullable=False),
)
