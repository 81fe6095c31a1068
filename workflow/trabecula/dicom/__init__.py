"""Files of an archive: their headers and attributes, and the stacks of slices that they form.

Here belongs what DICOM says and where it is read. Voxels belong to `convert`, pseudonyms to `cohort`.
"""
