"""Find, outline and number the vertebrae of a scan."""

from trabecula.cohort.label_maps import read_archived_studies
from trabecula.segment.backend import Job
from trabecula.segment.shard import open_backend, segment_shard

__all__ = ["Job", "open_backend", "read_archived_studies", "segment_shard"]
