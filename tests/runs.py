"""What several tests ask of a store: its content without what may differ between two equal runs, which is time."""

from sqlalchemy import text

from mcdal.store import Store


def content(out):
    """Everything in the store but times and sessions, as sorted rows by table."""
    queries = {
        "runs": "SELECT run_id, strategy, seed, config, data_fingerprint FROM runs",
        "rounds": "SELECT run_id, round, seed, labeled, finished_at IS NOT NULL FROM rounds",
        "queries": "SELECT run_id, round, sample_id, score, rank FROM queries",
        "labels": 'SELECT run_id, sample_id, value, "by" FROM labels',
        "metrics": "SELECT run_id, round, name, value FROM metrics",
    }
    store = Store(out, create=False)
    with store.read() as connection:
        found = {name: sorted(map(tuple, connection.execute(text(query)))) for name, query in queries.items()}
    store.close()
    return found
