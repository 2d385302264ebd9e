"""Cross-validate a network and an SVM with scikit-learn on images in folders GROUP/CLASS/, groups kept whole.

python examples/cross_validate.py images/
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from fastcell import CellClassifier

Images = list[np.ndarray]


def read(folder: Path) -> tuple[Images, np.ndarray, np.ndarray]:
    """Return the images (H, W) of any sizes, and the class and the group of each."""
    paths = sorted(folder.glob("*/*/*.png"))
    images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    return images, np.array([path.parent.name for path in paths]), np.array([path.parts[-3] for path in paths])


def as_rows(images: Images) -> np.ndarray:
    """Return images as rows of 32 x 32 pixels for methods that need a table."""
    return np.stack([cv2.resize(image, (32, 32)).ravel() / max(image.mean(), 1) for image in images])


def compare(folder: Path, **settings: object) -> dict[str, np.ndarray]:
    """Return the accuracy of each method on each group, which its training did not see."""
    images, classes, groups = read(folder)
    stacked = np.empty(len(images), object)
    stacked[:] = images
    methods: dict[str, BaseEstimator] = {
        "network": CellClassifier(preset="fast", random_state=0, **settings),
        "SVM": make_pipeline(FunctionTransformer(as_rows), StandardScaler(), PCA(0.95), SVC(C=10)),
    }
    split = LeaveOneGroupOut()
    return {
        name: cross_val_score(method, stacked, classes, groups=groups, cv=split) for name, method in methods.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of GROUP/CLASS/*.png")
    for name, scores in compare(parser.parse_args().images).items():
        print(f"{name}: {scores.mean():.3f} by group {np.round(scores, 3).tolist()}")
