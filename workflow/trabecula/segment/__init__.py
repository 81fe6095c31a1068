"""Find, outline and number the vertebrae of a scan."""

from trabecula.segment.shard import open_backend, segment_shard

__all__ = ["open_backend", "segment_shard"]
