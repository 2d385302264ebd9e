"""Names of the features of network images, and words for values outside their usual range."""

from __future__ import annotations

_WORDS: dict[str, tuple[str, str]] = {
    "background": ("darker background", "brighter background"),
    "background_spread": ("more even background", "less even background"),
    "contrast": ("fainter", "higher contrast"),
    "skewness": ("more dark parts", "more bright parts"),
    "kurtosis": ("evenly spread brightness", "extreme pixels"),
    "darkest": ("darker spots", "paler dark spots"),
    "brightest": ("dimmer bright spots", "brighter spots"),
    "subject": ("less in the image", "more in the image"),
    "radius": ("smaller", "larger"),
    "off_centre": ("centred", "off centre"),
    "elongation": ("rounder", "more elongated"),
    **{f"ring_{ring}": ("darker centre", "brighter centre") for ring in (0, 1, 2)},
    **{f"ring_{ring}": ("darker middle", "brighter middle") for ring in (3, 4, 5)},
    **{f"ring_{ring}": ("darker rim", "brighter rim") for ring in (6, 7)},
    **{f"{name}_{scale}": ("smoother", "noisier") for scale in (0, 1) for name in ("noise", "noise_diagonal")},
}

IMAGE_FEATURES: tuple[str, ...] = tuple(_WORDS)
"""Columns of `fastcell.inference.unlike.image_features.network_image_features`. Values are in units of the
network's input; `small` is the image halved to 17 to 32 px.

background, background_spread: mean and standard deviation of the outermost pixels of `small`.
contrast: logarithm of the standard deviation of `small`.
skewness, kurtosis: third moment, and logarithm of one plus the fourth moment, of the standardised pixels of `small`.
darkest, brightest: lowest and highest pixel of `small` minus background.
subject: logarithm of the mean difference from the background beyond its spread.
radius, off_centre, elongation: logarithm of the root mean square radius, distance of the centroid from the middle of
    the frame, and logarithm of the ratio of the axes, of that difference, in shares of the frame.
ring_0 to ring_7: mean of `small` in rings about the middle of the frame, minus background.
noise_0, noise_diagonal_0: logarithm of the mean absolute differences in the 2 x 2 squares of the outermost eighth of
    the image, along its axes and diagonal. noise_1, noise_diagonal_1: the same on the means of the squares.
"""

NUM_SHAPE_FEATURES = IMAGE_FEATURES.index("noise_0")
"""Number of features of brightness, size and shape, which come first; the others measure noise."""


def words_for(name: str, above: bool) -> str:
    """Return the word for an image feature above or below its range in training cells."""
    return _WORDS[name][above]
