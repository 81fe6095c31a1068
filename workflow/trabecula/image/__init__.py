"""Volumes on a grid of the patient: NIfTI, distances, overlays, and the names and codes of levels.

What is true of any volume or label map belongs here. Nothing here knows of an archive, a study or a table.
"""
