"""Help texts for the options of Lightning's trainer, whose own texts are long and contain markup."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from fastcell.cli.signature import Spelled

Limit = Annotated[int | float | None, Spelled("N|X")]
ClassOrText = Annotated[str | None, Spelled("CLASS")]


class TrainerArguments(NamedTuple):
    """Options ``--trainer.*`` for the help. The parser takes types and defaults from Lightning; a test compares both.

    Attributes:
        accelerator: hardware to run on
        strategy: strategy of training on several devices
        devices: number of GPUs, or of CPU processes
        num_nodes: number of computers that train together
        precision: 32-true, bf16-mixed or 16-mixed [default: by hardware]
        logger: further logger beside the run's own record
        callbacks: Lightning callbacks to add
        fast_dev_run: try the program on N batches of each subset without writing a run; true for one batch
        max_epochs: number of epochs to train; -1 for no limit
        min_epochs: minimum number of epochs to train
        max_steps: number of optimizer steps; -1 for no limit
        min_steps: minimum number of optimizer steps to train
        max_time: maximum training time, as DD:HH:MM:SS
        limit_train_batches: training batches per epoch and device: number, or share as a decimal such as 0.5
        limit_val_batches: validation batches per device: number, or share as a decimal such as 0.5
        limit_test_batches: test batches per device: number, or share as a decimal such as 0.5
        limit_predict_batches: batches to predict per device: number, or share as a decimal such as 0.5
        overfit_batches: train and validate on these few batches alone: number, or share as a decimal such as 0.01
        val_check_interval: time between two validations: batches, share of an epoch as a decimal, or DD:HH:MM:SS
        check_val_every_n_epoch: epochs between two validations; null to count batches only
        num_sanity_val_steps: number of validation batches to try before training; -1 for all
        log_every_n_steps: optimizer steps between two records of the logger
        enable_checkpointing: write checkpoints
        enable_progress_bar: show the progress of the run
        enable_model_summary: print the layers of the network
        accumulate_grad_batches: batches whose gradients are summed for one optimizer step
        gradient_clip_val: limit of the gradients; null for none
        gradient_clip_algorithm: clip gradients by their norm or by their values
        deterministic: use deterministic algorithms only; warn: print a warning if there is none
        benchmark: let cuDNN time its algorithms and take the fastest
        inference_mode: evaluate in torch's inference mode rather than with no_grad
        use_distributed_sampler: let Lightning divide the data among the processes, which fastcell does itself
        profiler: measure the time of the parts of training
        detect_anomaly: find the operation that makes a gradient NaN; makes training much slower
        barebones: switch off loggers, checkpoints and bars, to measure the trainer's overhead
        plugins: Lightning plugins to add
        sync_batchnorm: share the statistics of batch normalisation among all devices
        reload_dataloaders_every_n_epochs: number of epochs after which loaders are created again; 0 for never
        default_root_dir: folder for Lightning's files without a folder of their own
        enable_autolog_hparams: give the hyper-parameters to the logger at the start
        model_registry: name of the model in Lightning's model registry
    """

    accelerator: Annotated[str, Spelled("auto|cpu|gpu")] = "auto"
    strategy: str = "auto"
    devices: Annotated[int | str, Spelled("N")] = "auto"
    num_nodes: int = 1
    precision: Annotated[str | None, Spelled("PRECISION")] = None
    logger: Annotated[str | bool | None, Spelled("CLASS|true|false")] = None
    callbacks: ClassOrText = None
    fast_dev_run: Annotated[int | bool, Spelled("N|true|false")] = False
    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: Annotated[str | None, Spelled("TIME")] = None
    limit_train_batches: Limit = None
    limit_val_batches: Limit = None
    limit_test_batches: Limit = None
    limit_predict_batches: Limit = None
    overfit_batches: Limit = 0.0
    val_check_interval: Annotated[int | float | str | None, Spelled("N|X|TIME")] = None
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int | None = None
    log_every_n_steps: int | None = 1
    enable_checkpointing: bool | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = False
    accumulate_grad_batches: int = 1
    gradient_clip_val: Limit = None
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    deterministic: Annotated[str | bool | None, Spelled("true|false|warn")] = None
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = False
    profiler: Literal["simple", "advanced", "pytorch", "xla"] | None = None
    detect_anomaly: bool = False
    barebones: bool = False
    plugins: ClassOrText = None
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: int = 0
    default_root_dir: Annotated[str | None, Spelled("DIR")] = None
    enable_autolog_hparams: bool = True
    model_registry: str | None = None
