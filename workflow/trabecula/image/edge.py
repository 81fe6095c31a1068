"""How near to an edge a vertebral body may come and still count as whole."""

# A body counts as cut when less than one slice or less than this is left to the edge of the scan or of the label map:
# outlines of bodies that the edge cuts end up to 3 mm before it.
EDGE_MM = 4.0
