"""Lightning data module: loaders of training, validation, test and prediction for a packed data set."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from fastcell.dataset.class_balance import BalanceName
from fastcell.dataset.corrupt_cells import OnBadCell
from fastcell.dataset.dataset_info import read_info
from fastcell.dataset.integrity import still_corrupt
from fastcell.dataset.marks.journal import MARKS_FILE
from fastcell.dataset.schema import SubsetName
from fastcell.dataset.views import View, ViewConfig
from fastcell.errors import invalid
from fastcell.loading.bank_loader import BankLoader, PlannedLoader
from fastcell.loading.batch import Batch
from fastcell.loading.batch_augmentation import BatchAugmentation, find_function, name_of_function
from fastcell.loading.decode_choice import DecoderName
from fastcell.loading.loader import BatchLoader, CellLoader, EpochCounter, GroupedLoader
from fastcell.loading.order import BankOrder, StoredOrder
from fastcell.loading.preprocessing import Preprocessing
from fastcell.loading.ranks import chunks_left, evaluation_share, training_share
from fastcell.loading.same_data import SavedPlacement, SharedData
from fastcell.loading.settings import DtypeName, check_settings
from fastcell.loading.stores.placement import StoreName
from fastcell.loading.stores.stored_subsets import StoredSubsets
from fastcell.loading.transforms import TransformName
from fastcell.ops.augmentation import Augmentation
from fastcell.ops.constants import FitName, NormalizationName
from fastcell.remote.addresses import scheme_of
from fastcell.remote.object_cache import ObjectCache
from fastcell.system.lightning_internals import batches_begun

logger = logging.getLogger(__name__)

LoaderType = TypeVar("LoaderType", bound=BatchLoader)

# Arguments that change how a run works but not its results: a checkpoint does not hold them.
_NOT_SAVED = ("augment", "predict_split", "steps_per_call", "threads", "cache", "cache_gib", "on_bad_cell")


class CellDataModule(StoredSubsets):
    """Cells of a packed data set as batches.

    The constructor reads only ``dataset.json``, from which `classes`, `num_classes`, `preprocessing` and `info` follow.
    Training divides the train subset among the processes and shuffles it. Validation, test and prediction keep the
    order of the manifest. Every cell is in exactly one batch of one process with weight 1. Padding has weight 0, and
    the label -1 in evaluation. A user's own loop in one process gets no padding: its last batch is smaller. Without a
    trainer, each pass over a training loader is the next epoch, unless ``loader.set_epoch`` sets the epoch.

    Args:
        path: folder made by ``fastcell pack``, ``index`` or ``synth``, or its address, such as s3://bucket/cells. None
            for 8,000 simulated cells, which are made once and kept.
        split_name: split of the data set, by name.
        batch_size: cells per training step, over all processes.
        eval_batch_size: cells per step and process outside training. None for 256; on a GPU for up to 4096 of the small
            networks of this package, as its memory allows.
        image_size: side of the square images, 8 to 1024 [px].
        fit: way to fit a cell into the square image. Values: stretch (scale each axis by itself, as in the paper),
            contain (keep the aspect ratio), scale (keep the size).
        scale_um_per_px: size of an output pixel with fit scale [um]; None keeps the pixels of the raw image.
        normalization: normalisation of the intensity. Values: divide (by the mean, as in the paper), subtract (the
            mean), standardize (subtract the mean, then divide by the standard deviation).
        antialias: apply a low-pass filter to cells that are scaled down. The code of the paper applies none.
        augment: apply random changes to training cells.
        augmentation: strength of each random change; 0 disables it.
        batch_augmentation: user-defined augmentation after the built-in one, on the device of the batch: a function
            from `Batch` to `Batch`, or its class path; None for no augmentation.
        balance: treatment of rare classes. Values: none, oversample (repeat their cells in training), weights (give
            them larger weights in the loss), auto (oversample if the largest class has more than 10 times as many
            training cells as the smallest).
        balance_cap: largest mean number of repeats of a cell. None for no limit; if balance is auto, None for 10,
            reduced so that an epoch has at most twice as many cells.
        subsample: number of training cells to use, or share in (0, 1]; None for all.
        quality: exclude cells that verdicts.csv drops. Predictions always cover them.
        predict_split: subset to classify; None for every cell.
        store: stream from disk, or bank: keep cells in memory. A stream reads and decodes the cells in every epoch. A
            bank decodes them once, and is replaced by a stream if they do not fit into memory. auto takes a bank if
            they fit.
        bank_gib: memory limit of the banks of each process, on the GPU and on the host [GiB]; None for half of the free
            memory.
        transform: implementation of the image transform. auto takes fused if its GPU kernel supports the settings, else
            dali.
        decoder: decoder of the stored images. auto takes threads; DALI for the transform dali; on a GPU the faster one
            of both, timed for a second.
        depth: bits per grey level up to the network. The value 16 keeps all levels of 16-bit cells and takes twice the
            memory.
        dtype: data type of the images. auto follows the precision of the trainer.
        steps_per_call: batches that the training loader returns at a time, equal to the argument of the model.
        threads: loading threads per process; 0 for all cores. The processes on one machine share its cores evenly.
        initial_fill: number of cells in the shuffle buffer; 0 for 8192.
        cache: folder that keeps the shards of a data set at an address; None for the user's cache folder.
        cache_gib: size limit of that folder [GiB]; None for 64.
        on_bad_cell: reaction to a cell whose stored bytes have changed. Values: replace (take another cell of the batch
            with weight 0, and report the cell at the end), error (stop).
        seed: seed of order, augmentation and subsample; None for the seed of seed_everything, or 0.

    Raises:
        ArgumentError: an argument breaks its rule.
        DataError: `path` is not a packed data set.
    """

    def __init__(
        self,
        path: str | None = None,
        split_name: str = "default",
        batch_size: int = 256,
        eval_batch_size: int | None = None,
        image_size: int = 128,
        fit: FitName = "stretch",
        scale_um_per_px: float | None = None,
        normalization: NormalizationName = "divide",
        antialias: bool = False,
        augment: bool = True,
        augmentation: Augmentation = Augmentation(),  # noqa: B008, immutable
        batch_augmentation: str | dict[str, Any] | Callable[[Batch], Batch] | None = None,
        balance: BalanceName = "auto",
        balance_cap: float | None = None,
        subsample: int | float | None = None,
        quality: bool = True,
        predict_split: SubsetName | None = None,
        store: StoreName = "auto",
        bank_gib: float | None = None,
        transform: TransformName = "auto",
        decoder: DecoderName = "auto",
        depth: Literal[8, 16] = 8,
        dtype: DtypeName = "auto",
        steps_per_call: int = 1,
        threads: int = 0,
        initial_fill: int = 0,
        cache: str | None = None,
        cache_gib: float | None = None,
        on_bad_cell: OnBadCell = "replace",
        seed: int | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        check_settings(given)
        if isinstance(subsample, float) and subsample > 1 and subsample.is_integer():
            subsample = int(subsample)  # as the command line reads a number
        self.path = path if path is not None else _default_path()
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self._cache = ObjectCache.of(cache, cache_gib)
        self.info = read_info(self.path, self._cache)
        if scheme_of(self.path) or (Path(self.path) / MARKS_FILE).exists():  # labels by hand may add classes
            self.info = self.manifest.info
        self.classes = list(self.info.classes)
        window = None if self.info.window is None else (self.info.window[0], self.info.window[1])
        self.preprocessing = Preprocessing(image_size, fit, normalization, antialias, scale_um_per_px, window, depth)
        if depth == 16 and window is None:
            raise invalid("depth", f"8 for the 8-bit cells of {self.path}", depth, "Leave it out")
        self.augmentation = augmentation if augment else Augmentation.none()
        self.own_augmentation = find_function(batch_augmentation) if augment else None
        self._train = ViewConfig("train", split_name, subsample, balance, self.seed, quality, True, balance_cap)
        self.batch_size = batch_size
        self.predict_split, self.steps_per_call = predict_split, steps_per_call
        self._given = given
        self._shared = SharedData(self._labelled)
        self._predicted: np.ndarray | None = None
        self._epochs = EpochCounter()  # epochs of loops without a trainer, which may request a loader in every epoch
        given |= {"path": self.path, "subsample": subsample, "seed": self.seed}
        # With logger=True Lightning would compare these with the model's of the same name.
        self.save_hyperparameters(
            _saved(
                {
                    **given,
                    "augmentation": self.augmentation.to_dict(),
                    "batch_augmentation": name_of_function(batch_augmentation),
                },
                self.preprocessing.to_dict(),
            ),
            logger=False,
        )

    def use_preprocessing(self, preprocessing: Preprocessing, classes: list[str]) -> None:
        """Use the preprocessing and the class numbers of a checkpoint.

        Args:
            preprocessing: preprocessing in the training of the model.
            classes: names in the order of the model's outputs; cells of other classes count as unlabelled.

        Raises:
            ArgumentError: model and data have 16-bit cells with different windows.
        """
        here, there = self.preprocessing.window, preprocessing.window
        if here is not None and there is not None and here != there:
            raise invalid(
                "window of the data",
                f"{there[0]:g} to {there[1]:g} as in training",
                f"{here[0]:g} to {here[1]:g}",
                f"Pack them with --window {there[0]:g} {there[1]:g}",
            )
        self._close_stores()
        self.preprocessing, self.classes = preprocessing, list(classes)

    def setup(self, stage: str | None = None) -> None:
        """Select the cells of a stage (fit, validate, test or predict; None for all).

        Raises:
            ArgumentError: there are no cells, or training has labels of fewer than two classes.
        """
        self._let_go()  # stores of an earlier trainer:
        if stage == "fit":  # a data module may be fitted again, behind changes of its files
            self.manifest.reread()
            self._shared.forget_cells()
        self._valid_is_optional = stage in ("fit", None)
        wanted = {"fit": ("train", "valid"), "validate": ("valid",), "test": ("test",), "predict": ("predict",)}
        for part in wanted.get(str(getattr(stage, "value", stage)), ("train", "valid", "test", "predict")):
            self._views[part] = self._select(part)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that determines the training batches, and the corrupt cells found so far.

        Every rank must call it.
        """
        state = self._shared.state(self._settings_of_batches())
        if state:
            state |= {name: self._resolved[name] for name in ("transform", "decoder")}
            state["corrupt_cells"] = self.gather_corrupt_cells()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the batches of the run that saved `state_dict`. Its corrupt cells stay excluded to the end.

        Raises:
            ArgumentError: cells, labels, subsets, verdicts, seed or batch size differ.
            DataError: the run has found corrupt cells, and `on_bad_cell` is ``error``.
        """
        self._shared.before = self.check_state(state_dict)
        if self._given["transform"] == "auto":  # the two draw their noise differently
            self._given["transform"] = state_dict.get("transform", "auto")
        if state_dict.get("decoder") in ("dali", "threads"):  # the two round differently
            self._timed_decoder = state_dict["decoder"]
        known = state_dict.get("corrupt_cells", {})
        self.corrupt_cells.restore(known)
        if known and self._rank()[0] == 0:
            num = len(known) - len(still_corrupt(self.manifest, known))
            if num:
                logger.info(
                    "%d cells that were corrupt before are intact now; this run leaves them out to its end, a new run "
                    "uses them",
                    num,
                )
        self._close_stores()

    def check_state(self, state_dict: Mapping[str, Any]) -> SavedPlacement:
        """Return the placement of the run that saved `state_dict`.

        Raises:
            ArgumentError: cells, labels, subsets, verdicts, seed or batch size differ.
        """
        return self._shared.check(state_dict, self._settings_of_batches())

    def _settings_of_batches(self) -> dict[str, Any]:
        """Return the settings that must be equal in a resumed run."""
        return {
            "classes": self.classes,
            "window": self.preprocessing.window and list(self.preprocessing.window),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "initial_fill": self._given["initial_fill"],
        }

    def train_dataloader(self) -> BatchLoader | GroupedLoader:
        """Return a loader of the train subset: shuffled, augmented batches with `batch_size` cells over all processes.

        With `steps_per_call` above 1, an item is a tuple of batches, or the indices of their cells for a model that
        makes the images itself (`fastcell.models.replayed_steps`).
        """
        loader = self._training_loader()
        if self._plans(loader):
            return PlannedLoader(loader, self.steps_per_call)
        if self.own_augmentation is not None:
            loader.augment = BatchAugmentation(self.own_augmentation, self.seed, self._rank()[0])
        return loader if self.steps_per_call == 1 else GroupedLoader(loader, self.steps_per_call)

    def _plans(self, loader: BatchLoader) -> TypeGuard[BankLoader]:
        """Return whether the model takes training steps as indices of cells."""
        if self.steps_per_call == 1 or self.own_augmentation is not None or self.trainer is None:
            return False
        if not (isinstance(loader, BankLoader) and loader.makes_images_on_device and loader.pads):
            return False
        return bool(getattr(self.trainer.lightning_module, "takes_plans", False))

    def _training_loader(self) -> BatchLoader:
        trainer = self.trainer
        where = self._epochs if trainer is None else partial(_where, trainer, self.steps_per_call)
        return self._handed_out(self._shuffled(self.preprocessing, where))

    def training_twin(self, preprocessing: Preprocessing, place: tuple[int, int]) -> BatchLoader:
        """Return a loader of the training batches in another preprocessing, with the same cells and augmentation.

        Args:
            preprocessing: size, fit and normalisation of the images.
            place: epoch and first step of the batches.
        """
        return self._handed_out(self._shuffled(preprocessing, lambda: place))

    def _shuffled(self, preprocessing: Preprocessing, where: Callable[[], tuple[int, int]]) -> BankLoader | CellLoader:
        view, config = self.view("train"), self._config()
        assert view is not None
        options: dict[str, Any] = {"augmentation": self.augmentation, "labels": self._labels(), "where": where}
        store = self._store("train")
        if store.bank is not None and store.order is not None:
            # An order caches its results, and may be used by one thread only.
            order = replace(store.order) if isinstance(store.order, BankOrder) else store.order
            return BankLoader(store.bank, view, order, preprocessing, config, **options)
        share = training_share(len(view), self.batch_size, *self._rank())
        options["corrupt_cells"] = self.corrupt_cells
        return CellLoader(view, share, preprocessing, config, shuffle=True, **options)

    def _handed_out(self, loader: LoaderType) -> LoaderType:
        """Return a loader; in one process without padding, because a user's own loop may ignore weights."""
        module = getattr(self.trainer, "lightning_module", None)
        loader.pads = getattr(module, "takes_padding", False) or self._rank()[1] > 1
        return loader

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """Return a loader of the valid subset in stored order; an empty list if training has no valid subset."""
        view = self.view("valid")
        if view is None:
            return []
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:  # read only once: no store
            return self._evaluation_loader(view)
        store = self._store("valid")
        if store.bank is None:
            return self._evaluation_loader(view)
        order = StoredOrder(evaluation_share(len(view), self.eval_batch_size, *self._rank()))
        loader = BankLoader(store.bank, view, order, self.preprocessing, self._config(), labels=self._labels())
        return self._handed_out(loader)

    def test_dataloader(self) -> BatchLoader:
        """Return a loader of the test subset in stored order."""
        view = self.view("test")
        assert view is not None
        return self._evaluation_loader(view)

    def predict_dataloader(self) -> BatchLoader:
        """Return a loader of all cells of the manifest or of `predict_split`, in stored order, labelled or not."""
        view = self.view("predict")
        assert view is not None
        if self._predicted is not None:
            view = View(view.manifest, view.rows[chunks_left(view.rows, self._predicted, self.eval_batch_size)])
        return self._evaluation_loader(view)

    def skip_predicted(self, cell_ids: np.ndarray) -> None:
        """Exclude from prediction every chunk whose cells are all among `cell_ids`, (n,) int64."""
        self._predicted = cell_ids

    def teardown(self, stage: str) -> None:
        """Release views and banks; the next stage selects its cells again."""
        self._let_go()

    def _evaluation_loader(self, view: View) -> CellLoader:
        share = evaluation_share(len(view), self.eval_batch_size, *self._rank())
        loader = CellLoader(
            view, share, self.preprocessing, self._config(), labels=self._labels(), corrupt_cells=self.corrupt_cells
        )
        return self._handed_out(loader)


def _where(trainer: pl.Trainer, steps_per_call: int) -> tuple[int, int]:
    """Return the epoch and the first step in it, which is above 0 if training resumes within an epoch."""
    return trainer.current_epoch, batches_begun(trainer) * steps_per_call


def _saved(values: dict[str, Any], preprocessing: dict[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters for a checkpoint: the arguments, and the preprocessing."""
    saved: dict[str, Any] = {}
    for name, value in values.items():
        if name not in _NOT_SAVED:
            saved |= preprocessing if name in preprocessing else {name: value}
    return saved


def _default_path() -> str:
    from fastcell.simulator.synth import make_default_dataset

    return str(make_default_dataset(verbose=True))
