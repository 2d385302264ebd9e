"""Cells classified as they come: a stream protocol and HTTP for programs that acquire images, and watched folders."""
