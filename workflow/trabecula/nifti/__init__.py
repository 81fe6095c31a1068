"""NIfTI files of an archive: their headers, what their names and sidecars say, and how they are cut into slices.

Here belongs what NIfTI and the usual layouts of data sets say, and where it is read. A volume becomes one record per
axial slice, as a multi-frame CT has one per frame, so that everything after it treats slices alike. Voxels belong to
`convert`, and the volumes that the workflow itself writes to `image`.
"""
