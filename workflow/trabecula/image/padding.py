"""The value of voxels where nothing was scanned."""

# The lowest value that a CT stores; air itself is a little denser (`density.calibrate.phantomless.AIR_HU`).
PADDING_HU = -1024
