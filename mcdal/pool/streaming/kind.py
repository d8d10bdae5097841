"""What shards are called; by itself, as whoever only names a kind needs none of what reads it."""

from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["auto", "parquet", "tar", "lance", "files"]
