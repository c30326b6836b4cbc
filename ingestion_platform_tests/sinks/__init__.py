"""Telling alerts."""
