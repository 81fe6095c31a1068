"""Identities: pseudonyms, linkage and the private folder, shards, labels, patients and reviewers' verdicts.

Here belongs what decides which person, study or vertebra a row is about. Statistics belong to `evaluate`.
"""
