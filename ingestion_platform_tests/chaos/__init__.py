"""Tests of the room `chaos/`, and the short campaign that every run of the tests goes through."""
