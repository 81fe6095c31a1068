"""Services that every process needs: configuration, log, digest, workers, storage, clock and privacy.

Nothing here knows of medicine: a module of this room could serve any workflow on any data.
"""
