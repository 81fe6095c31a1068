"""Volumes on a grid of the patient: NIfTI, distances, overlays, and the names and codes of levels.

Here belongs what is true of any volume or label map. Nothing here knows of an archive, a study or a table.
"""
