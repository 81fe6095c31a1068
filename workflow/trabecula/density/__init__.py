"""From Hounsfield units to mg/cm³: attenuation, reference tissues, calibration.

Here belongs the physics of density and what it needs of a scan. Networks belong to `model`.
"""
