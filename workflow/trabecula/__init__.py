"""Trabecula: bone-density tables from archived CT."""

__version__ = "0.1.0"
