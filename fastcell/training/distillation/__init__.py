"""A small network that learns from a trained one: teacher, choice of the size, scores beside the teacher's."""
