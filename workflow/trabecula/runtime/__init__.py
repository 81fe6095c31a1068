"""What a process needs to run: configuration, log, digest, workers, storage, clock and privacy.

Here belongs what knows nothing of medicine: a module of this room could serve any workflow on any data.
"""
