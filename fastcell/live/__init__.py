"""Classify cells during acquisition: a stream protocol and HTTP for other programs, and watched folders."""
