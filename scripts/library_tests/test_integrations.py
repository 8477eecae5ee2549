"""Tools that record what a training read, with versions: each the real one, without a server of theirs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vfs
import vfs.errors


@pytest.fixture
def version(tmp_path: Path) -> Iterator[vfs.Version]:
    """A version with a file and a directory."""
    with vfs.init(tmp_path / "repo") as repository, repository.working() as layer:
        layer.write("train/a.csv", "x,y\n1,2\n")
        layer.write("labels.csv", "a,b\n")
        yield layer.commit("data")


@pytest.fixture
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file into which a recorded run's metrics go."""
    monkeypatch.setenv("VFS_METRICS", str(tmp_path / "metrics"))
    return tmp_path / "metrics"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_mlflow_run_says_which_version_it_read(version: vfs.Version, tmp_path: Path) -> None:
    import mlflow
    from mlflow.data import get_source

    from vfs.python.integrations.mlflow import VersionSource, dataset, log_input

    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    mlflow.set_tracking_uri(f"file:{tmp_path}/mlruns")
    with mlflow.start_run() as run:
        log_input(version, "train", context="training")
        log_input(version, "labels.csv", context="labels")
    inputs = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    assert {each.dataset.name for each in inputs} == {"train", "labels.csv"}
    found = {each.dataset.name: get_source(each) for each in inputs}
    assert all(isinstance(each, VersionSource) for each in found.values())
    where = Path(found["train"].load())
    assert (where / "a.csv").read_text() == "x,y\n1,2\n"
    assert Path(found["labels.csv"].load(tmp_path / "copy")).read_text() == "a,b\n"
    by_tag = {tag.key: tag.value for tag in inputs[0].tags}
    assert by_tag["vfs.id"] == version.id
    assert dataset(version, "labels.csv").digest == (version.info("labels.csv").hash or "")[:32]
    with pytest.raises(vfs.errors.NotFound):
        dataset(version, "nothing")


def test_a_wandb_run_uses_a_version_by_reference(
    version: vfs.Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    from vfs.python.integrations.wandb import artifact

    monkeypatch.setenv("WANDB_SILENT", "true")
    made = artifact(version, "train")
    assert [entry.ref for entry in made.manifest.entries.values()] == [f"{version.url}/train"]
    assert made.metadata["vfs.id"] == version.id
    assert artifact(version, "train").digest == made.digest
    assert artifact(version, "labels.csv").digest != made.digest
    with wandb.init(mode="offline", dir=tmp_path, project="p") as run:
        run.log_artifact(made)


def test_lightning_records_data_metrics_and_outputs(version: vfs.Version, tmp_path: Path, metrics: Path) -> None:
    import lightning
    import torch

    from vfs.python.integrations.lightning import VersionCallback

    class Model(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, _number: int) -> Any:
            loss = self.layer(batch).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    outputs = tmp_path / "checkpoints"
    callback = VersionCallback(version, outputs=outputs, at="models/one", message="trained")
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback, lightning.pytorch.callbacks.ModelCheckpoint(dirpath=outputs, filename="m")],
    )
    trainer.fit(Model(), torch.utils.data.DataLoader(torch.ones(4, 2), batch_size=2))
    assert callback.version is not None
    assert [entry.path for entry in callback.version.ls("models/one")] == ["models/one/m.ckpt"]
    assert callback.version.read_bytes("models/one/m.ckpt") == (outputs / "m.ckpt").read_bytes()
    assert callback.version.metadata["data.version"] == version.url
    assert float(callback.version.metadata["loss"]) == lines(metrics)[-1]["loss"]
    assert lines(metrics)[0] == {"data.version": version.url}
    assert [line["step"] for line in lines(metrics)[1:]] == [2, 4]


def test_the_trainer_of_transformers_records_data_metrics_and_outputs(
    version: vfs.Version, tmp_path: Path, metrics: Path
) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    from vfs.python.integrations.transformers import VersionCallback

    config = BertConfig(
        vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
        max_position_embeddings=4, num_labels=2,
    )  # fmt: skip
    data = [{"input_ids": torch.tensor([1, 2]), "labels": torch.tensor(number % 2)} for number in range(4)]
    callback = VersionCallback(version, outputs=tmp_path / "out", at="models/two")
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=2, logging_steps=1, save_steps=2, report_to=[], use_cpu=True,
        disable_tqdm=True, per_device_train_batch_size=2,
    )  # fmt: skip
    Trainer(BertForSequenceClassification(config), arguments, train_dataset=data, callbacks=[callback]).train()
    assert callback.version is not None
    assert callback.version.exists("models/two/checkpoint-2/model.safetensors")
    assert callback.version.metadata["data.version"] == version.url
    written = lines(metrics)
    assert written[0] == {"data.version": version.url}
    assert {line["step"] for line in written[1:]} == {1, 2}
    assert "loss" in written[1]


def test_outputs_replace_those_of_the_last_training(version: vfs.Version, tmp_path: Path) -> None:
    from vfs.python.integrations.training import TrainingRecord

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_bytes(b"1")
    record = TrainingRecord(version, outputs=tmp_path / "out")
    record.begin()
    record.end()
    (tmp_path / "out" / "old").rename(tmp_path / "out" / "new")
    record.end()
    assert record.version is not None
    assert [entry.path for entry in record.version.ls("out")] == ["out/new"]
    assert record.version.exists("labels.csv")
    with pytest.raises(vfs.errors.InvalidInput):
        TrainingRecord(outputs="out")
