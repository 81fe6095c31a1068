"""The distance from an edge within which a vertebral body counts as cut."""

# A body counts as cut when less than one slice or less than this is left to the edge of the scan or of the label map:
# outlines of bodies that the edge cuts end up to 3 mm before it.
EDGE_MM = 4.0
