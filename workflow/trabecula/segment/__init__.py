"""Find, outline and number the vertebrae of a scan."""

from trabecula.segment.shard import choose_backend, open_backend, segment_shard

__all__ = ["choose_backend", "open_backend", "segment_shard"]
