"""How near to an edge a vertebral body may come and still count as whole."""

# Outlines of bodies that the edge of a scan cuts end up to 3 mm before it.
EDGE_MM = 4.0
